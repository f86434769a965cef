package registry

import "time"

const (
	// maxReference bounds a reference as text: host and path 255 each, tag 128, digest 135.
	maxReference = 1024
	// maxRepository is what the distribution specification allows for host and path together.
	maxRepository = 255
	// maxManifest bounds a manifest, which is kept in memory; registries accept 4 MiB.
	maxManifest = 8 << 20
	// maxManifestItems bounds the values of a manifest, by the commas between them; the largest honest index has 20,000.
	maxManifestItems = 200_000
	// maxList bounds the tags of a repository or the repositories of a registry, all pages together: half a million of 60 bytes.
	maxList = 32 << 20
	// listPageCost is what a page counts beside its bytes, so that empty pages end, too: after a thousand.
	listPageCost = 32 << 10
	// catalogPage is how many repositories are asked for at once; registries allow no more.
	catalogPage = 1000
	// maxErrorBody bounds what is shown of a server's error: its JSON form needs a few hundred bytes.
	maxErrorBody = 4 << 10
	// maxHeaders bounds the header of an answer. The largest seen, with signed URLs, have 8 KiB.
	maxHeaders = 64 << 10
	// maxTokenBody bounds a token server's answer; tokens of large organisations reach 16 KiB.
	maxTokenBody = 1 << 20
	// maxDockerConfig bounds the credentials file.
	maxDockerConfig = 1 << 20
	// maxHelperOutput bounds a credential helper's answer.
	maxHelperOutput = 64 << 10
	// maxHops bounds redirects: registry, storage and one to spare in each.
	maxHops = 5
	// maxRetryAfter bounds a wait that a server asks for.
	maxRetryAfter = 60 * time.Second
	// helperTime bounds a credential helper, which may ask a cloud but no person.
	helperTime = 10 * time.Second
	// dialTime bounds connecting and the TLS handshake, each.
	dialTime = 10 * time.Second
	// answerTime bounds the wait for the header of an answer after the request is sent.
	answerTime = 30 * time.Second
	// commitTime is answerTime for an upload: the registry hashes and moves the blob before it answers.
	commitTime = 10 * time.Minute
	// idleTime bounds the wait for more bytes, in either direction.
	idleTime = 60 * time.Second
	// minRate is how many bytes must come in each idleTime spent waiting: 1 KiB/s.
	minRate = 60 << 10
	// tokenLife is a token's life when the server names none (distribution's token specification).
	tokenLife = 60 * time.Second
	// tokenMargin is how long before its end a token is renewed.
	tokenMargin = 10 * time.Second
	// defaultRetries is how often a request is tried in all.
	defaultRetries = 5
	// mirrorTries is how often a mirror is asked before the next server is.
	mirrorTries = 2
	// defaultRetryDelay is the first wait; it doubles up to maxRetryDelay.
	defaultRetryDelay = time.Second
	maxRetryDelay     = 30 * time.Second
	// requests at once to one host. Pull and push between two repositories of one host hold two
	// each, so this is far above the blobs that a copy moves at once.
	maxRequests = 64
	// chunk is the unit of a chunked upload, which regclient holds in memory.
	chunk = 16 << 20
)
