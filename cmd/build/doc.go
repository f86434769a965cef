// Gobuild builds an OCI image from a Dockerfile and a context, without a daemon.
//
//	gobuild [build] [flags] CONTEXT
//
// This package is the command line around package builder: it turns flags and
// the environment into builder.Options, shows events through package ui, and
// turns errors into exit codes. To change
//
//   - what a flag does or answers: its row in flagtable.go or flagtable_other.go,
//     and its reader in options.go, outputflag.go, secret.go or runopts.go;
//   - a command: its row in dispatch.go, and buildcmd.go, storecmds.go or statecmds.go;
//   - an exit code: the table in exit.go.
//
// # Promises
//
// Standard output gets results only: ids, lists, JSON that was asked for, and -o -.
// Everything else goes to standard error. Every flag of docker build, buildx,
// buildah and kaniko is known; one that cannot be obeyed is an error that names
// what to use, never ignored in silence. Everything that can be wrong on a
// command line is found before the build starts. A value comes from the flag, else
// from GOBUILD_<FLAG>, else from the default. Only this package reads the
// environment and the working directory, and only it ends the process.
//
// # What it does not do
//
// It knows nothing of Dockerfiles, images or registries: that is package builder.
package main
