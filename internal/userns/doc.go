// Package userns puts a program that a user without privileges has started into a user namespace in which it is root, over the
// user's own files and over the range of ids that subuid(5) and subgid(5) give the user.
//
// A process cannot be moved there, since a Go program has several threads from its start (user_namespaces(7)). So the program is
// started a second time, with the same arguments, and the first one waits for it:
//
//	// the program that the user started
//	code, err := userns.Run(userns.Config{UID: 1000, User: "me", Args: os.Args, Env: os.Environ(), ...})
//
//	// the second one, first thing in main
//	if mark := os.Getenv(userns.Mark); mark != "" {
//		inside, err := userns.Enter(mark, os.Getenv("HOME"))
//	}
//
// The second one has a mount namespace, too. Standard streams, working directory, other descriptors that were inherited, process
// group, terminal, limits and supplementary groups are those of the first. It ends with the first, however that ends. Its
// status becomes the first one's. The first runs only programs newuidmap and newgidmap, which may map what the files give.
//
// What is in the way is an *Error, with a remedy. The package prints nothing and reads no environment.
package userns
