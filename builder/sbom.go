package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	"gobuild/image"
	"gobuild/registry"
	"gobuild/sbom"
	"gobuild/stages"
)

// SBOMOptions are those of --sbom (FEATURES M4).
type SBOMOptions struct {
	Tool string // what made it, with its version, as documents name it

	Generator  string            // an image that makes it instead, by BuildKit's protocol; "": gobuild itself
	Parameters map[string]string // of the generator: NAME of BUILDKIT_SCAN_NAME to value
	Network    bool              // the generator gets the network of the build's steps; else none
}

const spdxPredicate = "https://spdx.dev/Document"

// scanned is one tree whose bill of materials is wanted.
type scanned struct {
	name  string        // "sbom", or "sbom-" and the name of a stage or "context"
	stage *stages.Stage // nil for the context
	about sbom.About
	scan  func(ctx context.Context) (*sbom.Inventory, error)
}

// bills are statements of the software in the result, and in the stages and the context that BUILDKIT_SBOM_SCAN_STAGE and
// BUILDKIT_SBOM_SCAN_CONTEXT name (FEATURES B10).
func (ln *lane) bills(ctx context.Context, subjects []image.Subject, about sbom.About) ([]namedStatement, error) {
	if ln.opt.Attest.SBOM == nil {
		return nil, nil
	}
	if ln.generator != nil {
		list, err := ln.generated(ctx, subjects)
		if err != nil {
			return nil, fmt.Errorf("bill of materials: %w", err)
		}
		return list, nil
	}
	about.Name = cmp.Or(about.Name, ln.title())
	var list []namedStatement
	for _, target := range ln.scanTargets() {
		if target.name == "sbom" {
			target.about = about
		}
		st, err := ln.bill(ctx, target, subjects)
		if err != nil {
			return nil, fmt.Errorf("bill of materials %s: %w", target.name, err)
		}
		list = append(list, namedStatement{st, target.name + ".spdx.json"})
	}
	return list, nil
}

// title is what a document calls the image: its first name.
func (ln *lane) title() string {
	for _, o := range append([]Output{{}}, ln.opt.Outputs...) {
		if names, err := ln.names(o); err == nil && len(names) > 0 {
			if ref, err := registry.ParseReference(names[0]); err == nil {
				return ref.Familiar()
			}
		}
	}
	return "_"
}

// scanTargets are the image, and what is scanned beside it.
func (ln *lane) scanTargets() []scanned {
	of := func(s state) func(context.Context) (*sbom.Inventory, error) {
		return func(ctx context.Context) (*sbom.Inventory, error) { return ln.scanState(ctx, s) }
	}
	target := ln.plan.Target()
	list := []scanned{{"sbom", target, sbom.About{}, of(ln.target().final)}}
	if target.ScanContext {
		list = append(list, scanned{"sbom-context", nil, sbom.About{Name: "build context", Purpose: "SOURCE"}, ln.scanContext})
	}
	for _, s := range ln.plan.Stages {
		if s != target && s.ScanStage {
			name := cmp.Or(s.Name, fmt.Sprintf("stage-%d", s.Index))
			list = append(list, scanned{"sbom-" + name, s, sbom.About{Name: "stage " + name}, of(ln.runs[s.Index].final)})
		}
	}
	return list
}

// scanState finds the software of a file system. What is found is kept by its layers, so that a build without changes unpacks nothing.
func (bd *build) scanState(ctx context.Context, s state) (*sbom.Inventory, error) {
	key := cache.NewKey("sbom").Add("form", sbomForm).Add("lineage", s.lineage()).Key()
	var found sbom.Inventory
	if _, ok, err := bd.cache.Lookup(key, &found); err == nil && ok {
		return &found, nil
	}
	root, err := bd.viewOrEmpty(ctx, s)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	got, err := sbom.Scan(ctx, root, nil)
	if err != nil {
		return nil, err
	}
	if err := bd.cache.Put(key, "sbom", got); err != nil {
		bd.notice(fmt.Sprintf("what a bill of materials has is found again by the next build: %v", err))
	}
	return got, nil
}

// sbomForm is part of the key of what was found: it changes with what package sbom finds.
const sbomForm = "2"

// scanContext finds the software of the build context, without what is ignored.
func (ln *lane) scanContext(ctx context.Context) (*sbom.Inventory, error) {
	tree, err := ln.trees.get("")
	if err != nil {
		return nil, err
	}
	ignore := ln.trees.ignore
	return sbom.Scan(ctx, tree.Root(), func(p string) bool {
		ignored, _ := ignore.Match(strings.TrimPrefix(p, "/"))
		return ignored
	})
}

func (ln *lane) bill(ctx context.Context, target scanned, subjects []image.Subject) (image.Statement, error) {
	found, err := target.scan(ctx)
	if err != nil {
		return image.Statement{}, err
	}
	ln.warnOfNotes(target.name, found.Notes)
	about := target.about
	about.Tool = ln.opt.Attest.SBOM.Tool
	if about.Created, err = ln.billTime(found); err != nil {
		return image.Statement{}, err
	}
	doc, err := sbom.Document(found, about)
	if err != nil {
		return image.Statement{}, err
	}
	return image.NewStatement(spdxPredicate, subjects, json.RawMessage(doc))
}

// warnOfNotes says what a bill lacks: the document says it, too.
func (ln *lane) warnOfNotes(name string, notes []string) {
	if len(notes) == 0 {
		return
	}
	text := fmt.Sprintf("%s is not complete: %s", name, notes[0])
	if more := len(notes) - 1; more > 0 {
		text += fmt.Sprintf("; and %d more, which the document names", more)
	}
	ln.em.emit(Event{Type: EventWarning, Text: text, Rule: "IncompleteSBOM"})
}

// billTime is when the software was found first, or the epoch: a build without changes repeats its bills, and its digest.
func (ln *lane) billTime(found *sbom.Inventory) (time.Time, error) {
	if ln.opt.SourceDateEpoch != nil {
		return *ln.opt.SourceDateEpoch, nil
	}
	raw, err := json.Marshal(found)
	if err != nil {
		return time.Time{}, err
	}
	key := cache.NewKey("sbom-time").Add("found", digest.FromBytes(raw).String()).Key()
	var at time.Time
	if _, ok, err := ln.cache.Lookup(key, &at); err == nil && ok {
		return at, nil
	}
	at = ln.cfg.Now().UTC().Truncate(time.Second)
	return at, ln.cache.Put(key, "sbom", at)
}
