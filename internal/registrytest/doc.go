// Package registrytest is a registry in the process of a test.
//
//	r := registrytest.New(t)
//	r.Basic("me", "secret")                // or r.Token("me", "secret")
//	r.Intercept(func(w http.ResponseWriter, req *http.Request) bool { ... })
//	pushTo(r.Host + "/app:1")
//	r.Requests()                           // what was asked, in order
//
// Promises: repositories share nothing, so a blob is in one only when it was sent or mounted there; what is stored has the digest
// that it was sent under; a manifest is taken only when all that it refers to is there. Requests may come
// concurrently.
//
// It is not a registry for anything else: all is in memory, and there is no garbage collection.
package registrytest
