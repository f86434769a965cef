package builder

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/filetree"
	"gobuild/layer"
	"gobuild/stages"
)

// FileInfo is one file of an image.
type FileInfo struct {
	Path  string `json:"path"`
	Type  string `json:"type"` // file, directory, symlink, device, fifo
	Mode  int64  `json:"mode"`
	UID   int    `json:"uid"`
	GID   int    `json:"gid"`
	Size  int64  `json:"size"`
	Link  string `json:"link,omitempty"`
	Layer int    `json:"layer"` // index from the bottom
}

// WasteInfo is what layers hold of a path although the image does not need it.
type WasteInfo struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Times int    `json:"times"`
}

// FileList is what gobuild files shows.
type FileList struct {
	Digest digest.Digest `json:"digest"`
	Layers []LayerInfo   `json:"layers"`
	Files  []FileInfo    `json:"files"`
	Bytes  int64         `json:"bytes"` // of the files
	Wasted int64         `json:"wastedBytes"`
	Waste  []WasteInfo   `json:"waste"` // most first
}

// Files lists the files of an image, and what its layers waste. Layers are read once and not unpacked.
func (b *Builder) Files(ctx context.Context, text, platform string) (*FileList, error) {
	out, err := b.files(ctx, text, platform)
	if err != nil {
		return nil, classify(fmt.Errorf("list the files of %s: %w", text, err), CategoryEnvironment)
	}
	return out, nil
}

func (b *Builder) files(ctx context.Context, text, platform string) (out *FileList, err error) {
	one, err := b.sideOf(ctx, text, platform)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, one.Close()) }()
	tree := filetree.New()
	for i := range one.m.Layers {
		if err := one.apply(ctx, tree, i, filetree.Sides{true}, i); err != nil {
			return nil, err
		}
	}
	out = &FileList{Digest: one.desc.Digest, Layers: layersOf(one.m, one.img), Files: []FileInfo{}, Waste: []WasteInfo{}}
	err = tree.Walk(func(p string, e, _ *filetree.Entry) error {
		out.Files = append(out.Files, fileInfo(p, e))
		out.Bytes += e.Size
		return nil
	})
	for _, w := range tree.Wasted() {
		out.Waste = append(out.Waste, WasteInfo(w))
		out.Wasted += w.Bytes
	}
	return out, err
}

func fileInfo(p string, e *filetree.Entry) FileInfo {
	kinds := map[byte]string{tar.TypeReg: "file", tar.TypeDir: "directory", tar.TypeSymlink: "symlink", tar.TypeFifo: "fifo"}
	kind, ok := kinds[e.Type]
	if !ok {
		kind = "device"
	}
	return FileInfo{Path: "/" + p, Type: kind, Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size, Link: e.Link, Layer: e.Layer}
}

// side is one image that is looked into.
type side struct {
	*located
	m   ocispec.Manifest
	img stages.Image
}

func (b *Builder) sideOf(ctx context.Context, text, platform string) (*side, error) {
	wanted, err := wantedPlatform(platform)
	if err != nil {
		return nil, usage{err}
	}
	f, err := b.lookup(ctx, text)
	if err != nil {
		return nil, err
	}
	s := &side{located: f}
	if s.m, s.img, err = f.parts(ctx, wanted); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// apply streams a layer into the tree. The blob is read to its end, since only there it is known to be the right one.
func (s *side) apply(ctx context.Context, tree *filetree.Tree, i int, sides filetree.Sides, number int) (err error) {
	d := s.m.Layers[i]
	blob, err := s.src.Fetch(ctx, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	plain, err := layer.Decompress(blob)
	if err == nil {
		err = errors.Join(tree.Apply(ctx, plain, sides, number), plain.Close())
	}
	if errors.Is(err, layer.ErrCorrupt) {
		return &Error{Category: CategoryRemote, Op: "read layer " + d.Digest.String() + " of " + s.text, Err: err}
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	return nil
}

// FileChange is a path that two images differ in; the side that lacks it is nil.
type FileChange struct {
	Path   string    `json:"path"`
	Change string    `json:"change"` // added, removed, changed
	Old    *FileInfo `json:"old,omitempty"`
	New    *FileInfo `json:"new,omitempty"`
	What   []string  `json:"what,omitempty"` // of a change: content, mode, owner, type, link
}

// ConfigChange is a field of the configuration that differs, as JSON text; "" where it is not set.
type ConfigChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// Difference is what gobuild diff shows.
type Difference struct {
	Old    digest.Digest  `json:"old"`
	New    digest.Digest  `json:"new"`
	Config []ConfigChange `json:"config"`
	Shared int            `json:"sharedLayers"` // from the bottom
	Layers struct {
		Old []LayerInfo `json:"old"`
		New []LayerInfo `json:"new"`
	} `json:"layers"` // that are not shared
	Files []FileChange `json:"files"`
}

// Diff compares two images: configuration, layers, files.
func (b *Builder) Diff(ctx context.Context, from, to, platform string) (*Difference, error) {
	out, err := b.diff(ctx, from, to, platform)
	if err != nil {
		return nil, classify(fmt.Errorf("compare %s with %s: %w", from, to, err), CategoryEnvironment)
	}
	return out, nil
}

func (b *Builder) diff(ctx context.Context, from, to, platform string) (out *Difference, err error) {
	var pair [2]*side
	for i, text := range []string{from, to} {
		if pair[i], err = b.sideOf(ctx, text, platform); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, pair[i].Close()) }()
	}
	out = &Difference{Old: pair[0].desc.Digest, New: pair[1].desc.Digest, Files: []FileChange{}}
	if out.Config, err = configChanges(pair[0].img, pair[1].img); err != nil {
		return nil, err
	}
	old, now := pair[0].img.RootFS.DiffIDs, pair[1].img.RootFS.DiffIDs
	for out.Shared < min(len(old), len(now)) && old[out.Shared] == now[out.Shared] {
		out.Shared++
	}
	out.Layers.Old, out.Layers.New = layersOf(pair[0].m, pair[0].img)[out.Shared:], layersOf(pair[1].m, pair[1].img)[out.Shared:]
	if out.Shared == len(old) && out.Shared == len(now) {
		return out, nil // the same layers: no need to read them
	}
	tree := filetree.New()
	for i := range out.Shared {
		if err := pair[0].apply(ctx, tree, i, filetree.Sides{true, true}, i); err != nil {
			return nil, err
		}
	}
	for s, one := range pair {
		for i := out.Shared; i < len(one.m.Layers); i++ {
			if err := one.apply(ctx, tree, i, filetree.Sides{s == 0, s == 1}, i); err != nil {
				return nil, err
			}
		}
	}
	return out, tree.Walk(func(p string, a, b *filetree.Entry) error {
		if c, ok := fileChange(p, a, b); ok {
			out.Files = append(out.Files, c)
		}
		return nil
	})
}

// fileChange compares the two versions of a path. Times alone are no difference.
func fileChange(p string, a, b *filetree.Entry) (FileChange, bool) {
	c := FileChange{Path: "/" + p, Change: "changed"}
	if a != nil {
		info := fileInfo(p, a)
		c.Old = &info
	}
	if b != nil {
		info := fileInfo(p, b)
		c.New = &info
	}
	switch {
	case a == nil:
		c.Change = "added"
		return c, true
	case b == nil:
		c.Change = "removed"
		return c, true
	case a.SameContent(b):
		return c, false
	}
	for _, x := range []struct {
		what    string
		differs bool
	}{
		{"type", c.Old.Type != c.New.Type}, {"content", a.Digest != b.Digest || a.Size != b.Size}, {"mode", a.Mode != b.Mode},
		{"owner", a.UID != b.UID || a.GID != b.GID}, {"link", a.Link != b.Link},
	} {
		if x.differs {
			c.What = append(c.What, x.what)
		}
	}
	return c, true
}

// configChanges compares the configurations field by field; history and layers are compared elsewhere.
func configChanges(a, b stages.Image) ([]ConfigChange, error) {
	old, err := flatConfig(a)
	if err != nil {
		return nil, err
	}
	now, err := flatConfig(b)
	if err != nil {
		return nil, err
	}
	changes := []ConfigChange{}
	var fields []string
	for f := range old {
		fields = append(fields, f)
	}
	for f := range now {
		if _, ok := old[f]; !ok {
			fields = append(fields, f)
		}
	}
	slices.Sort(fields)
	for _, f := range fields {
		if old[f] != now[f] {
			changes = append(changes, ConfigChange{f, old[f], now[f]})
		}
	}
	return changes, nil
}

// flatConfig is a configuration as "field" -> JSON text; variables and labels are fields of their own.
func flatConfig(img stages.Image) (map[string]string, error) {
	img.RootFS.DiffIDs, img.History = nil, nil
	raw, err := json.Marshal(img)
	if err != nil {
		return nil, err
	}
	var top map[string]any
	if err := json.Unmarshal(raw, &top); err != nil {
		return nil, err
	}
	out := map[string]string{}
	put := func(field string, v any) error {
		text, err := json.Marshal(v)
		out[field] = string(text)
		return err
	}
	inner, _ := top["config"].(map[string]any)
	delete(top, "config")
	delete(top, "rootfs")
	for _, fields := range []map[string]any{top, inner} {
		for field, v := range fields {
			err = errors.Join(err, flatField(field, v, put))
		}
	}
	return out, err
}

func flatField(field string, v any, put func(string, any) error) (err error) {
	list, isList := v.([]any)
	labels, isMap := v.(map[string]any)
	switch {
	case field == "Env" && isList:
		for _, kv := range list {
			k, value, _ := strings.Cut(fmt.Sprint(kv), "=")
			err = errors.Join(err, put("Env."+k, value))
		}
	case field == "Labels" && isMap:
		for k, label := range labels {
			err = errors.Join(err, put("Labels."+k, label))
		}
	default:
		err = put(field, v)
	}
	return err
}
