// Package stages turns the text of a Dockerfile into a plan: the stages that a
// target needs, in order, their steps with every variable expanded, and the
// configuration and history that the image will have. It is pure: it reads no
// file, no network, no environment and no clock.
//
// # How
//
//	file, err := stages.Parse("Dockerfile", text, stages.ParseOptions{BuildArgs: args})
//	known := map[stages.BaseRef]stages.Base{}
//	for {
//		plan, missing, err := file.Plan(opt, known)
//		if err != nil || plan != nil {
//			return plan, err
//		}
//		for _, ref := range missing { // resolve them, in parallel
//			known[ref] = ...
//		}
//	}
//
// Plan asks in rounds, because the ONBUILD triggers of a base may name further
// images. When a base cannot be had, File.BaseError makes the error to show.
//
// # What it promises
//
// The meaning of a Dockerfile is that of docker/dockerfile 1.26, whose line
// parser, instruction parser and expansion lexer are used; docs/dockerfile.md
// lists where we differ. A plan is data: equal inputs give equal plans, also as
// JSON, and each stage follows all that it reads. It shares memory between its
// stages, so it must not be changed.
//
// Every error is an *Error with the lines it is about and, where one is known, a
// remedy. ErrNotAllowed marks a privilege that --allow does not grant,
// ErrUnsupported a feature that gobuild lacks; nothing is skipped in silence.
//
// A File does not change after Parse and may be planned by many goroutines.
//
// Hostile text cannot crash, hang or flood the process: limits.go has the
// bounds. Words are measured before the lexer sees them (guard.go), and one
// budget covers everything that a plan expands, copies and holds.
//
// # Lint
//
// Plan.Warnings holds the findings of the reference's own rules, all of them:
// StageNameCasing, FromAsCasing, NoEmptyContinuation, ConsistentInstructionCasing,
// DuplicateStageName, ReservedStageName, JSONArgsRecommended, MaintainerDeprecated,
// UndefinedArgInFrom, WorkdirRelativePath, UndefinedVar,
// MultipleInstructionsDisallowed, LegacyKeyValueFormat, RedundantTargetPlatform,
// SecretsUsedInArgOrEnv, InvalidDefaultArgInFrom, FromPlatformFlagConstDisallowed,
// InvalidBaseImagePlatform (of FROM only), CopyIgnoredFile, ExposeProtoCasing,
// ExposeInvalidFormat, and InvalidDefinitionDescription when asked for. The check
// directive and check comments are honoured. Three notices of our own have the
// names NoticeUnusedBuildArg, NoticeLabsFeature and NoticeNotUTF8.
//
// Rules that judge style and known traps have names that begin with Best. The
// table of them is bestRules in best.go, a pure function each; Options.Best turns
// them on, Options.Facts tells them of the build context. For those about RUN
// shellscan.go splits scripts. docs/lint.md has a section for each rule.
//
// # What it does not do
//
// It does not resolve images, read the build context or run anything: builder
// does, with the packages for each. Patterns of ignore files are interpreted by
// package buildcontext (here only for CopyIgnoredFile); users and groups by name,
// source paths and globs where files are copied; proxies, secrets and sockets
// where commands run.
package stages
