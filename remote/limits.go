package remote

import "time"

const (
	// MaxBody is the default bound of a body whose length nobody promised: larger than any file that an image should
	// hold, smaller than the disks that builds run on.
	MaxBody = 16 << 30
	// MaxSubmodules bounds the submodules of a repository; the largest that are known have 200.
	MaxSubmodules = 1000
	// maxURL bounds a URL as text. Browsers and servers stop at 2 to 64 KiB; signed URLs reach 4 KiB.
	maxURL = 16 << 10
	// maxValidator bounds an ETag or a date that is kept for the next build; longer ones are not kept.
	maxValidator = 1 << 10
	// maxName bounds a file name, as every file system of Linux does.
	maxName = 255
	// maxHeaders bounds the header of an answer. The largest seen, with signed URLs, have 8 KiB.
	maxHeaders = 64 << 10
	// maxDiscard is read of an answer that does not matter, so that its connection can be used again.
	maxDiscard = 4 << 10
	// maxHops bounds redirects: short link, site, mirror, storage and one to spare.
	maxHops = 5
	// maxRetryAfter bounds a wait that a server asks for.
	maxRetryAfter = 60 * time.Second
	// dialTime bounds connecting and the TLS handshake, each.
	dialTime = 10 * time.Second
	// answerTime bounds the wait for the header of an answer.
	answerTime = 30 * time.Second
	// idleTime bounds the wait for more bytes.
	idleTime = 60 * time.Second
	// minRate is how many bytes must come in each idleTime spent waiting: 1 KiB/s.
	minRate = 60 << 10
	// defaultTries is how often a URL is tried in all.
	defaultTries = 5
	// defaultDelay is the wait before the second try; it doubles up to maxDelay.
	defaultDelay = time.Second
	maxDelay     = 30 * time.Second
	// progressStep is how many bytes pass between two calls of Request.Progress.
	progressStep = 1 << 20
	// maxRef bounds the name of a git ref: it is a path in the repository.
	maxRef = 1 << 10
	// maxGitOutput bounds what git says that is not a file: the refs that were asked for.
	maxGitOutput = 1 << 20
	// maxGitLine bounds an entry of a tree as git lists it: a path, for which Linux allows 4 KiB, and two hashes.
	maxGitLine = 8 << 10
	// maxModules bounds .gitmodules: 1,000 submodules with long addresses have 256 KiB.
	maxModules = 1 << 20
	// maxSaid bounds what is kept of git's error messages.
	maxSaid = 4 << 10
	// gitAskTime bounds asking for a ref: connecting, TLS and one or two answers.
	gitAskTime = 60 * time.Second
	// gitEndTime is how long git's helpers may hold its pipes open after it was ended.
	gitEndTime = 5 * time.Second
	// copyBuffer is the unit in which a body is copied.
	copyBuffer = 128 << 10
)
