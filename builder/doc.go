// Package builder is the centre of the star: it knows the parts, and they do
// not know each other.
//
// What: Build resolves base images, schedules the stages of a plan, runs the
// steps that the cache lacks, packs their layers while later steps run, and
// assembles and delivers the image.
//
//	b, err := builder.Open(builder.Config{Root: dir, Executable: "/proc/self/exe"})
//	defer b.Close()
//	res, err := b.Build(ctx, builder.Options{Context: ".", Tags: []string{"app:dev"}})
//
// Promise: every error is an *Error with a category, and with file and line
// where there is one. Two Builders, in one process or in many, share a state
// directory safely. A step that was not finished is not in the cache. Events
// come one at a time. When Build returns, no step of it is running.
//
// Not here: what a Dockerfile means (stages), what a layer's bytes are (layer),
// how a command is isolated (sandbox), what the user sees (ui).
//
// Where things are: build.go is the walk; plans.go plans for each platform, and lane.go finds what
// platforms share; bases.go finds base images; stage.go
// runs one stage; run.go, copy.go, remote.go, git.go and workdir.go write a
// step's key and do it; archive.go makes folders of other contexts; pack.go makes layers; assemble.go and output.go deliver; commands.go,
// usage.go, contextinfo.go and doctor.go (whose rows are made in diagnose.go and
// diagnose_host.go) are what is not a build.
//
// Lock order: the state directory (shared, for a whole command), a step's or
// layer's key, then cache mounts in the order of their targets. A key is held
// while its step runs, never while waiting for another stage.
package builder
