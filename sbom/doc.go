// Package sbom finds the software that a file tree has, and writes a bill of
// materials.
//
// What: Scan reads what package managers, language tools and compilers leave in a
// tree: dpkg (status and status.d), apk, rpm (SQLite, ndb and Berkeley DB), Go programs and
// go.mod, and the lock files and metadata of npm, yarn, pnpm, Cargo, Python, Composer, Bundler, .NET,
// Gradle and Maven. Document makes SPDX 2.3 JSON of it.
//
//	found, err := sbom.Scan(ctx, root)
//	text, err := sbom.Document(found, sbom.About{Name: "app:1", Tool: "gobuild", Created: now})
//
// Promise: the tree may be hostile. Nothing outside it is read, no link is
// followed to a file that is scanned, FIFOs and devices are not opened, and every
// file, list and name is bounded (limits.go). What could not be read is in
// Inventory.Notes and in the document, and never an error by itself. The same tree
// gives the same bytes.
//
// Not here: who is told of a document (image), and files that no package
// manager knows.
package sbom
