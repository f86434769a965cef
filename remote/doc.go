// Package remote fetches what a Dockerfile or a command line names by URL.
//
//	c, err := remote.New(remote.Config{})
//	defer c.Close()
//	res, err := c.Fetch(ctx, remote.Request{
//		URL:   "https://example.com/tool.tar.gz",
//		Known: remote.Validators{ETag: etag}, // of the bytes that are there already
//		Open:  func(size int64) (io.Writer, error) { return os.Create(name) },
//	})
//	if res.NotModified { … } // what is there is still right, and Open was not called
//
// Promises: an answer that is not 2xx is an error. The body is whole, or Fetch fails; whether it is the one that was
// wanted is for the caller to check by its digest. TLS is verified, and nothing leads from https to http. A host that a
// server names, in a redirect, must have a public address unless it is the host of the URL itself or Config.AllowPrivate
// says otherwise; the link-local network is refused whoever names it. No credentials are sent, and a URL that has some
// in it is refused. Failures that may pass are tried again; a download that broke off goes on where it was when the server
// says that the file is still the same one, and from the start otherwise. Every wait, count and length is bounded
// (limits.go), and ctx ends all of them. All methods may be called concurrently.
//
// Git repositories are the business of the program git, which is kept from everything but the one address (git.go):
//
//	g, err := remote.ParseGit("https://example.com/a.git#main:sub")
//	rev, err := c.GitResolve(ctx, g, remote.GitAuth{})
//	err = c.GitFetch(ctx, g, rev, emptyDir, remote.GitAuth{}, false)
//	err = c.GitArchive(ctx, g, rev.Commit, emptyDir, func(tar io.Reader) error { … })
//	subs, err := c.GitSubmodules(ctx, g, rev.Commit, emptyDir)
//
// Its redirects are not followed. Over http and https it is held to the addresses that were found good; over ssh and git://
// a name could mean another one by the time that git asks. What a repository says about submodules is checked (submodule.go);
// fetching them, each with what its server may be shown, is for the caller.
//
// Every error of a request is an *Error, whose texts hold no query of the URL: it may be a secret.
//
// It does not keep what it fetched (package store), remember validators (package cache) or unpack archives (package
// layer). Registries have their own package.
package remote
