package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/tardiff"
	"gobuild/layer"
)

// Discrepancy is how an image that was made again differs from the one that was to come out.
type Discrepancy struct {
	Config   []ConfigChange     `json:"config"`
	Manifest []ConfigChange     `json:"manifest"`
	Layers   []LayerDiscrepancy `json:"layers"` // that differ, from the bottom
}

// LayerDiscrepancy is a layer that differs. Of one that is missing on one side, that side's digests are "".
type LayerDiscrepancy struct {
	Number    int           `json:"number"` // from 1
	CreatedBy string        `json:"createdBy"`
	Old       digest.Digest `json:"old"` // of the uncompressed layer
	New       digest.Digest `json:"new"`
	Packing   string        `json:"packing,omitempty"` // the files are the same, and packed otherwise
	tardiff.Diff
}

// First names what differs first: layer, file and attribute, or a field.
func (d *Discrepancy) First() string {
	for _, l := range d.Layers {
		where := fmt.Sprintf("layer %d", l.Number)
		switch {
		case l.Old == "" || l.New == "":
			return where + " is in one of them alone"
		case l.Packing != "":
			return where + " is packed otherwise"
		}
		// What differs in more than times says more.
		for _, timesToo := range []bool{false, true} {
			for _, c := range l.Changes {
				if c.OnlyTimes() && !timesToo {
					continue
				}
				if len(c.Attrs) > 0 {
					return fmt.Sprintf("%s: %s: %s", where, c.Path, c.Attrs[0].Name)
				}
				return fmt.Sprintf("%s: %s is %s", where, c.Path, c.Kind)
			}
		}
		return where + ": the form of the archive"
	}
	if len(d.Config) > 0 {
		return "configuration: " + d.Config[0].Field
	}
	if len(d.Manifest) > 0 {
		return "manifest: " + d.Manifest[0].Field
	}
	return "the text of the documents"
}

// compare finds what differs between an image and the one that was made in its place, which is in the store.
func (r *reproducer) compare(ctx context.Context, want, got ocispec.Descriptor) (*Discrepancy, error) {
	was, now := *r.of, located{location: location{kind: inStore, text: got.Digest.String()}, desc: got, src: r.b.store, Closer: nothingToClose{}}
	was.desc = want
	var pair [2]*side
	for i, f := range []*located{&was, &now} {
		s := &side{located: f}
		var err error
		if s.m, s.img, err = f.parts(ctx, ""); err != nil {
			return nil, err
		}
		pair[i] = s
	}
	d := &Discrepancy{Manifest: manifestChanges(pair[0].m, pair[1].m)}
	var err error
	if d.Config, err = configChanges(pair[0].img, pair[1].img); err != nil {
		return nil, err
	}
	d.Config = append(d.Config, historyChanges(pair[0].img.History, pair[1].img.History)...)
	for i := range max(len(pair[0].m.Layers), len(pair[1].m.Layers)) {
		l, err := compareLayers(ctx, pair, i)
		if err != nil {
			return nil, err
		}
		if l != nil {
			d.Layers = append(d.Layers, *l)
		}
	}
	return d, nil
}

// compareLayers is nil for two that are the same.
func compareLayers(ctx context.Context, pair [2]*side, i int) (*LayerDiscrepancy, error) {
	l := &LayerDiscrepancy{Number: i + 1}
	var descs [2]ocispec.Descriptor
	for s, id := range []*digest.Digest{&l.Old, &l.New} {
		if i < len(pair[s].m.Layers) {
			rows := layersOf(pair[s].m, pair[s].img)
			*id, l.CreatedBy, descs[s] = rows[i].DiffID, rows[i].CreatedBy, pair[s].m.Layers[i]
		}
	}
	switch {
	case l.Old == "" || l.New == "":
		return l, nil
	case l.Old == l.New && descs[0].Digest == descs[1].Digest && descs[0].MediaType == descs[1].MediaType:
		return nil, nil //nolint:nilnil // the same
	case l.Old == l.New:
		l.Packing = fmt.Sprintf("%s of %d bytes, and %s of %d bytes", descs[0].MediaType, descs[0].Size, descs[1].MediaType, descs[1].Size)
		return l, nil
	}
	var err error
	l.Diff, err = diffLayers(ctx, pair, descs)
	return l, err
}

func diffLayers(ctx context.Context, pair [2]*side, descs [2]ocispec.Descriptor) (d tardiff.Diff, err error) {
	var plain [2]io.Reader
	for s, desc := range descs {
		blob, err := pair[s].src.Fetch(ctx, desc)
		if err != nil {
			return d, err
		}
		defer func() { _ = blob.Close() }() // read to its end below, where it is verified
		r, err := layer.Decompress(blob)
		if err != nil {
			return d, layerError(pair[s].text, desc, err)
		}
		defer func() { _ = r.Close() }()
		plain[s] = &wholeBlob{r, blob}
	}
	if d, err = tardiff.Compare(ctx, plain[0], plain[1]); err != nil {
		return d, layerError(pair[0].text+" or "+pair[1].text, descs[0], err)
	}
	for s := range plain {
		if _, err := io.Copy(io.Discard, plain[s]); err != nil {
			return d, layerError(pair[s].text, descs[s], err)
		}
	}
	return d, nil
}

func layerError(text string, desc ocispec.Descriptor, err error) error {
	err = fmt.Errorf("compare layer %s of %s: %w", desc.Digest, text, err)
	switch {
	case errors.Is(err, tardiff.ErrTooLarge):
		return &Error{Category: CategoryUnsafe, Err: err}
	case errors.Is(err, tardiff.ErrMalformed), errors.Is(err, layer.ErrCorrupt):
		return &Error{Category: CategoryRemote, Err: err}
	}
	return err
}

// wholeBlob reads the compressed bytes to their end, too, where it is known whether they are the right ones.
type wholeBlob struct{ plain, blob io.Reader }

func (w *wholeBlob) Read(p []byte) (int, error) {
	n, err := w.plain.Read(p)
	if errors.Is(err, io.EOF) {
		if _, rest := io.Copy(io.Discard, w.blob); rest != nil {
			return n, rest
		}
	}
	return n, err
}

// historyChanges compares entry by entry.
func historyChanges(a, b []ocispec.History) []ConfigChange {
	var list []ConfigChange
	for i := range max(len(a), len(b)) {
		var texts [2]string
		for s, h := range [][]ocispec.History{a, b} {
			if i < len(h) {
				raw, err := json.Marshal(h[i])
				if err != nil {
					continue // times beyond the year 9999 have no text
				}
				texts[s] = string(raw)
			}
		}
		if texts[0] != texts[1] {
			list = append(list, ConfigChange{fmt.Sprintf("history %d", i+1), texts[0], texts[1]})
		}
	}
	return list
}

// manifestChanges compares what a manifest says beside its configuration and layers.
func manifestChanges(a, b ocispec.Manifest) []ConfigChange {
	list := []ConfigChange{}
	note := func(field, old, now string) {
		if old != now {
			list = append(list, ConfigChange{field, old, now})
		}
	}
	note("mediaType", a.MediaType, b.MediaType)
	note("artifactType", a.ArtifactType, b.ArtifactType)
	note("config.mediaType", a.Config.MediaType, b.Config.MediaType)
	var keys []string
	for _, m := range []map[string]string{a.Annotations, b.Annotations} {
		for key := range m {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		note("annotations."+key, a.Annotations[key], b.Annotations[key])
	}
	note("config.annotations", fmt.Sprint(a.Config.Annotations), fmt.Sprint(b.Config.Annotations))
	for i := range min(len(a.Layers), len(b.Layers)) {
		note(fmt.Sprintf("layers[%d].annotations", i), fmt.Sprint(a.Layers[i].Annotations), fmt.Sprint(b.Layers[i].Annotations))
	}
	slices.SortStableFunc(list, func(a, b ConfigChange) int { return strings.Compare(a.Field, b.Field) })
	return list
}
