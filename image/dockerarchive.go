package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerListFile lists the images of an archive that docker save writes.
const dockerListFile = "manifest.json"

// readDockerList makes a layout of an archive that has no OCI index: configurations and layers are as they are there, and
// manifests are made. Layers mostly lie unpacked in it, so that the configuration names them by their digests.
func (l *Layout) readDockerList() error {
	b, err := l.read(dockerListFile)
	if err != nil {
		return fmt.Errorf("read %s: %w", dockerListFile, err)
	}
	var list []dockerImage
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("read %s: %w: %w", dockerListFile, ErrMalformed, err)
	}
	if len(list) > maxEntries {
		return fmt.Errorf("%d images in %s: %w", len(list), dockerListFile, ErrTooLarge)
	}
	l.made, l.places, l.layers = map[digest.Digest][]byte{}, map[digest.Digest]string{}, map[string]ocispec.Descriptor{}
	l.index = newIndex()
	for i, entry := range list {
		desc, err := l.dockerImage(entry)
		if err != nil {
			return fmt.Errorf("image %d of %s: %w", i+1, dockerListFile, err)
		}
		kept := 0
		for _, b := range l.made {
			kept += len(b)
		}
		if kept > maxGraph {
			return fmt.Errorf("configurations of more than %d bytes: %w", maxGraph, ErrTooLarge)
		}
		l.index.Manifests = append(l.index.Manifests, tagged(desc, fullNames(entry.RepoTags), nil)...)
	}
	return nil
}

// fullNames gives names the form that they have in a layout.
func fullNames(names []string) []string {
	var out []string
	for _, n := range names {
		if first, rest, ok := strings.Cut(n, "/"); !ok {
			n = "docker.io/library/" + n
		} else if !strings.ContainsAny(first, ".:") && first != "localhost" {
			n = "docker.io/" + first + "/" + rest
		}
		out = append(out, n)
	}
	return out
}

func (l *Layout) dockerImage(entry dockerImage) (ocispec.Descriptor, error) {
	config, err := l.read(l.resolveLink(entry.Config))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("read configuration: %w", err)
	}
	cfg, err := ParseConfig(config)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("configuration %s: %w", entry.Config, err)
	}
	if len(cfg.RootFS.DiffIDs) != len(entry.Layers) || len(entry.Layers) > maxLayers {
		return ocispec.Descriptor{}, fmt.Errorf("%d layers, but the configuration has %d: %w", len(entry.Layers), len(cfg.RootFS.DiffIDs), ErrMalformed)
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.Config = l.keep(ocispec.MediaTypeImageConfig, config)
	for i, name := range entry.Layers {
		d, err := l.dockerLayer(l.resolveLink(name), cfg.RootFS.DiffIDs[i])
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", name, err)
		}
		m.Layers = append(m.Layers, d)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := l.keep(m.MediaType, raw)
	if cfg.OS != "" && cfg.Architecture != "" {
		p := cfg.Platform
		desc.Platform = &p
	}
	return desc, nil
}

// keep remembers a document that lies in the archive under another name, or not at all.
func (l *Layout) keep(mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	l.made[d] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// dockerLayer describes a layer of the archive. One that is compressed there must be read to know its digest.
func (l *Layout) dockerLayer(name string, diffID digest.Digest) (ocispec.Descriptor, error) {
	if err := checkDigest(diffID); err != nil {
		return ocispec.Descriptor{}, err
	}
	if d, ok := l.layers[name]; ok { // of several images; a layer that another configuration calls otherwise fails there
		if d.MediaType == ocispec.MediaTypeImageLayer && d.Digest != diffID {
			return ocispec.Descriptor{}, fmt.Errorf("it is %s in one image and %s in another: %w", d.Digest, diffID, ErrMalformed)
		}
		return d, nil
	}
	r, size, err := l.open(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer r.Close()
	var magic [6]byte
	n, err := io.ReadFull(r, magic[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffID, Size: size}
	switch kind := compression(magic[:n]); kind {
	case "":
	case "gzip", "zstd":
		desc.MediaType += "+" + kind
		h := digest.SHA256.Digester()
		if _, err := h.Hash().Write(magic[:n]); err != nil {
			return ocispec.Descriptor{}, err
		}
		if _, err := io.CopyBuffer(h.Hash(), struct{ io.Reader }{r}, make([]byte, copyBuffer)); err != nil {
			return ocispec.Descriptor{}, err
		}
		desc.Digest = h.Digest()
	default:
		return ocispec.Descriptor{}, fmt.Errorf("compressed with %s: %w", kind, ErrMalformed)
	}
	l.places[desc.Digest], l.layers[name] = name, desc
	return desc, nil
}

// resolveLink follows one symbolic link of the archive: older archives have one layer under several names.
func (l *Layout) resolveLink(name string) string {
	name = cleanName(name)
	if to, ok := l.links[name]; ok {
		return cleanName(path.Join(path.Dir(name), to))
	}
	return name
}

// cleanName is how the names of an archive are kept.
func cleanName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }
