// Package imageref reads image names by Docker's rules: [host[:port]/]path[:tag][@digest], with docker.io and library/ filled
// in (FEATURES J1).
//
// It takes a text and gives a Ref, whose parts are valid, or an error that says which part is not and why. It never asks a
// registry, and knows no policy: which digest algorithms are good enough is for the caller to say.
//
// The grammar is that of github.com/distribution/reference, and a fuzz test holds the two together. That module is not used
// itself because its regular expressions are compiled when a process starts, RUN's init included, and took more time than all
// other packages of gobuild together.
package imageref
