package main

import "time"

const (
	// maxDockerConfig bounds Docker's configuration file: real ones have a few kilobytes.
	maxDockerConfig = 1 << 20

	// maxConfig bounds a configuration file: all flags fit into a hundredth of it.
	maxConfig = 1 << 20

	// maxDockerfile bounds a Dockerfile from standard input, as it is bounded when read from a file.
	maxDockerfile = 16 << 20

	// maxArgFile bounds a --build-arg-file.
	maxArgFile = 1 << 20

	// maxSeccomp bounds a system call filter: Docker's own has 20 KiB.
	maxSeccomp = 1 << 20

	// maxGroupPath bounds --cgroup-parent by what the kernel takes as a path.
	maxGroupPath = 4095

	// maxToolWait bounds the question whether docker or podman works here: a daemon that hangs does not.
	maxToolWait = 15 * time.Second

	// maxPassword bounds a user name or a password: tokens of large organisations reach 16 KiB.
	maxPassword = 64 << 10

	// minPushChunk keeps the requests of a push few, maxPushChunk its memory: four chunks are held at once.
	minPushChunk = 1 << 20
	maxPushChunk = 256 << 20

	// maxRetries and maxRetryWait bound --retry and --retry-delay: an hour of waits is the end of any patience.
	maxRetries   = 100
	maxRetryWait = 10 * time.Minute

	// maxTemplate bounds a --format that is a template, maxTemplateRow what it may print of one entry.
	maxTemplate    = 64 << 10
	maxTemplateRow = 1 << 20

	// maxReportLogs bounds what a report has of the output of all steps, maxReportLog and minReportLog of one: a page is read in a browser.
	maxReportLogs = 16 << 20
	maxReportLog  = 512 << 10
	minReportLog  = 8 << 10
	// maxReportStages bounds the drawing of a report: more boxes are no picture.
	maxReportStages = 200

	// maxSecret is BuildKit's bound on the value of a secret (FEATURES M8).
	maxSecret = 500 << 10

	// maxEpoch is the end of the year 9999, the last that RFC 3339 can write.
	maxEpoch = 253402300799

	// maxCPUs bounds --cpus: the quota it stands for has to fit the kernel's 64 bits of nanoseconds.
	maxCPUs = 1 << 16
)
