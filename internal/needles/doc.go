// Package needles looks for a set of byte strings in much data, in one pass.
//
//	set := needles.New([]needles.Needle{{Name: "token", Bytes: value}})
//	set.Find(data, func(name string) { ... })
//	st := set.Stream(func(name string) { ... })   // for data that comes in pieces
//	st.Write(piece)
//
// Promises: a needle is found wherever it lies, across pieces too, and is told by its name once for each Find or Stream. The cost per
// byte does not grow with the number of needles while there are some hundred. A Set does not change and may be used by several
// goroutines; a nil Set has no needle. Nothing is kept of the data beyond the call, and of a Stream the longest needle's length.
//
// It does not know what the needles are, nor look into compressed data.
package needles
