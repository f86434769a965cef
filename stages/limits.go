package stages

// Bounds on what a Dockerfile, a base image's triggers or a build argument may
// ask for. They are far above any real use: their purpose is that a hostile
// input ends in an error instead of in a machine without memory.
const (
	// maxDockerfile is the size of the text. The reference has no limit of its
	// own; 16 MiB is a thousand times the largest Dockerfile known.
	maxDockerfile = 16 << 20

	// maxDocWork is the product of the names of an ARG and the comments above it
	// that are searched for a description of each. 50,000 of both take minutes.
	maxDocWork = 1 << 20

	// maxLine is the length of a physical line without its LF. The reference
	// reads lines through a 64 KiB buffer, so longer ones never worked.
	maxLine = 65535

	// maxEpoch is the end of the year 9999, the last that RFC 3339 can write.
	maxEpoch = 253402300799

	// maxInstructions bounds the file and, together with them, the triggers.
	maxInstructions = 10000

	// maxWord is the length of a word after expansion: doubling variables reach
	// it in 20 steps. It is above the 128 KiB that Linux allows one argument.
	maxWord = 1 << 20

	// maxNesting is the depth of ${a:-${b:-...}}. The lexer recurses, and a Go
	// program whose stack overflows cannot recover.
	maxNesting = 100

	// maxLexed is the number of ${ in one instruction that contains <<. The line
	// parser's search for heredocs recurses into them before we see the words;
	// 5000 levels cost it 10 MB.
	maxLexed = 5000

	// maxWordWork bounds, for one word, both the bytes that its expansion may
	// produce on the way and the steps of its pattern matches, which are the
	// product of pattern and value lengths.
	maxWordWork = 32 << 20

	// maxPattern is the length of a pattern in ${name#pattern}; patternCost is what
	// compiling one byte of it counts, in time and memory.
	maxPattern  = 16 << 10
	patternCost = 64

	// maxPlanWork is the same sum over a whole plan, and counts what the plan
	// holds too: history texts, environments of RUNs, copied configurations. It
	// is a thousand times what a large Dockerfile needs, and about two seconds.
	maxPlanWork = 64 << 20

	// entryCost is what copying one environment entry with its index counts: it
	// takes about the time, and the memory, of as many bytes of text.
	entryCost = 64

	// maxShown is the expanded length of an instruction beyond which it is shown
	// as written.
	maxShown = 64 << 10

	// maxConfig is the size of an image configuration that registries and
	// runtimes accept.
	maxConfig = 8 << 20

	// maxWarnings is what a person could read; more are cut off.
	maxWarnings = 1000

	// maxSuggestWord and maxSuggestNames keep the search for a near name cheap.
	maxSuggestWord  = 100
	maxSuggestNames = 2000

	// maxQuoted is how much of a user's word an error message repeats.
	maxQuoted = 120

	// maxCause is how long a parser's message may be before it is cut: it may
	// repeat a whole instruction.
	maxCause = 400

	// maxFix is how many lines a lint rule proposes.
	maxFix = 50

	// maxScratchSteps, maxLookBack and maxVolumes keep lint rules linear that
	// look back from each instruction: past them they are silent.
	maxScratchSteps = 200
	maxLookBack     = 50
	maxVolumes      = 20
)
