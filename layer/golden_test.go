package layer

const (
	goldenDiffID = "766df6a02ee870eed82fd1a4f0425eb7709f0bcae6adf34fd244657809f042c3"
	goldenGzip   = "5999c15c7ef4a372b19392b28ae2a0e50ac4665cf35327027568b3f3ebb8f94c"
	goldenZstd   = "8eea2541a36bd1b97ca8493f7794ebf776f9acf66edbfbdaecc99c7be9d050b6"
)
