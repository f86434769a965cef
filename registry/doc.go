// Package registry names images and moves their manifests and blobs to and from
// registries over the OCI distribution API.
//
//	c, err := registry.New(registry.Config{DockerConfig: path})
//	defer c.Close()
//	ref, err := registry.ParseReference("alpine:3.20")
//	desc, err := c.Resolve(ctx, ref)
//	b, mediaType, err := c.Manifest(ctx, ref, desc.Digest)
//	err = image.Copy(ctx, store, c.Repository(ref), root, image.CopyOptions{})
//
// Promises: what is read has the size and digest that were asked for, or reading fails.
// TLS is verified; plain HTTP is spoken only to loopback addresses and to hosts listed in
// Config.Insecure. Credentials are bound to scheme, host and port of the registry they are
// configured for: they are attached to each request by its target, never follow a redirect or an upload
// location elsewhere, and reach a token server only over the conditions of tokenServer. A host
// that a server names must be a public address unless it is the registry's own. Every wait and every answer is bounded
// (limits.go), and ctx ends all of them. Nothing is read or dialled before the first request.
// All methods may be called concurrently.
//
// How the work is divided: regclient (scheme/reg) knows the API: paths, retries, resumed
// downloads, uploads whole and in chunks. Everything that decides about trust is in our transport below it: which
// address is dialled, which request carries which credential, what a redirect may do. regclient is
// given no credentials and sees no redirects.
//
// Mirrors (package hostconf says which) are asked before the registry itself, for pulls alone; their
// credentials are those of their own host, and what they send is verified as all else is.
//
// It does not interpret manifests (package image) or keep blobs (package store).
package registry
