// Package hostconf says which servers answer for a registry: its mirrors, in order, and the registry itself, each with its TLS files.
//
//	c := hostconf.Config{Files: []string{"/etc/gobuild/registries.toml"}, Dirs: []string{"/etc/docker/certs.d"}}
//	r, err := c.Lookup("docker.io", "library/alpine")
//	for _, m := range r.Mirrors { ... }
//
// It reads gobuild's registries.toml (the form of buildkitd's [registry] tables), podman's registries.conf, and folders with one folder a registry, in which
// lies containerd's hosts.toml or Docker's *.crt, *.cert and *.key.
//
// Promises: nothing is read before Lookup; a file that is not there says nothing; one that is wrong is an error that
// names file and key, never half obeyed. Files are bounded.
//
// It does not talk to servers or read certificates (package registry does).
package hostconf
