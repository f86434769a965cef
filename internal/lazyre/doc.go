// Package lazyre compiles regular expressions at their first use. A package variable made by regexp.MustCompile costs every
// process its time, also the init of each RUN and a build that finds all its steps cached.
//
// It takes an expression that is constant, and gives the methods that gobuild needs. It never takes an expression from outside:
// one that does not compile ends the program at its first use, and lazyre_test.go compiles them all.
package lazyre
