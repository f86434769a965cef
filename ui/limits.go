package ui

const (
	// maxLine bounds the bytes of one shown line of step output; a longer line
	// is shown in pieces. It is what an endless line may cost in memory, per
	// running step and stream.
	maxLine = 8 << 10

	// maxSGR bounds the parameters of a colour sequence: the longest useful one,
	// a foreground and a background of three numbers each, has 38 bytes.
	maxSGR = 64

	// maxStyle bounds the colour sequences before the text of a line, which a
	// program could repeat without end and which count no columns.
	maxStyle = 256

	// maxExcerpt bounds the failing lines shown of one instruction: a heredoc
	// may have thousands, and the first ones name it.
	maxExcerpt = 30

	// maxText bounds one line of a message or a file excerpt: a Dockerfile line
	// may have 64 KiB.
	maxText = 2 << 10

	// excerptAround is the number of lines shown on either side (F1).
	excerptAround = 4

	// maxTail is the number of output lines repeated after a failed RUN (F1).
	maxTail = 20

	// maxSpool bounds the bytes in memory that wait for a slow terminal; more wait in a file.
	maxSpool = 1 << 20

	// maxSpoolFile bounds that file: a step that prints without end must not fill a disk while a terminal is stopped.
	maxSpoolFile = 1 << 30

	// maxHeld bounds the bytes in memory that a running step has printed, which are shown in full if it fails; more are in a file.
	maxHeld = 64 << 10

	// maxOverflow bounds the file: a step may print without end, on a disk that others need.
	maxOverflow = 256 << 20

	// maxLogLines bounds what BUILDKIT_TTY_LOG_LINES may ask for.
	maxLogLines = 100

	// maxTransfers bounds the transfers whose last report is remembered; past
	// it the table starts anew, which costs at most some extra lines.
	maxTransfers = 1 << 10
)
