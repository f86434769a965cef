package builder

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/stages"
)

// Annotation is a key and a value that an image carries outside its configuration (FEATURES H16; OCI image-spec annotations.md).
type Annotation struct {
	On       string // what carries it: "manifest", or "manifest-descriptor", the entry that leads to it
	Platform string // of the only image that gets it, "" for any
	Key      string
	Value    string
}

const (
	onManifest   = "manifest"
	onDescriptor = "manifest-descriptor"
)

// annotationTypes are buildx's words; the last two are about an index, which one image has none of.
var annotationTypes = []string{onManifest, onDescriptor, "index", "index-descriptor"}

// ParseAnnotation reads [TYPE[PLATFORM],...:]KEY=VALUE, as buildx does. Without a type the manifest is meant.
func ParseAnnotation(s string) ([]Annotation, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return nil, errors.New("want [TYPE:]KEY=VALUE")
	}
	types := []string{onManifest}
	if before, key, ok := strings.Cut(name, ":"); ok {
		types, name = strings.Split(before, ","), key
	}
	var out []Annotation
	for _, t := range types {
		a, err := newAnnotation(t, name, value)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// newAnnotation takes a type such as "manifest[linux/arm64]".
func newAnnotation(on, key, value string) (Annotation, error) {
	a := Annotation{On: on, Key: key, Value: value}
	if word, platform, ok := strings.Cut(on, "["); ok {
		platform, ok = strings.CutSuffix(platform, "]")
		p, err := platforms.Parse(platform)
		if !ok || err != nil {
			return a, fmt.Errorf("%q is no platform", platform)
		}
		a.On, a.Platform = word, platforms.Format(platforms.Normalize(p))
	}
	switch {
	case key == "":
		return a, errors.New("the key is empty")
	case !slices.Contains(annotationTypes, a.On):
		err := fmt.Errorf("%q carries no annotations", a.On)
		if near := stages.Suggest(a.On, annotationTypes); near != "" {
			return a, &hinted{err: err, hint: "did you mean " + near + "?"}
		}
		return a, &hinted{err: err, hint: fmt.Sprintf("%v do", annotationTypes)}
	case a.On != onManifest && a.On != onDescriptor:
		return a, &hinted{err: errors.New("one image has no index"), hint: "use manifest or manifest-descriptor"}
	}
	return a, nil
}

// annotationOf reads an attribute of an output that is an annotation: annotation.KEY, annotation-TYPE[PLATFORM].KEY.
func annotationOf(attr, value string) (Annotation, bool, error) {
	rest, ok := strings.CutPrefix(attr, "annotation")
	head, key, dot := strings.Cut(rest, ".")
	if !ok || !dot || head != "" && head[0] != '-' && head[0] != '[' {
		return Annotation{}, false, nil
	}
	on := strings.TrimPrefix(head, "-")
	if on == "" || on[0] == '[' {
		on = onManifest + on
	}
	a, err := newAnnotation(on, key, value)
	return a, true, err
}

// annotations are those of the command line and of all outputs, which share one image.
func (opt *Options) annotations() ([]Annotation, error) {
	all := slices.Clone(opt.Annotations)
	for _, o := range opt.Outputs {
		for attr, value := range o.Attrs {
			a, ok, err := annotationOf(attr, value)
			if err != nil {
				return nil, fmt.Errorf("%s=: %w", attr, err)
			}
			if ok {
				all = append(all, a)
			}
		}
	}
	return all, nil
}

// annotate gives an image what is meant for it: the manifest's annotations before it is made, the descriptor's after.
func (bd *build) annotate(platform ocispec.Platform) (manifest, descriptor map[string]string) {
	own := platformText(platform)
	for _, a := range bd.form.annotations {
		if a.Platform != "" && a.Platform != own {
			bd.notice(fmt.Sprintf("annotation %s is for %s, and the image is for %s", a.Key, a.Platform, own))
			continue
		}
		to := &manifest
		if a.On == onDescriptor {
			to = &descriptor
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[a.Key] = a.Value
	}
	return manifest, descriptor
}

// assembleAnnotated is image.Assemble with the annotations.
func (bd *build) assembleAnnotated(a image.Assembly) (image.Assembled, error) {
	manifest, descriptor := bd.annotate(a.Image.Platform)
	a.Annotations = manifest
	out, err := image.Assemble(a)
	out.Manifest.Annotations = descriptor
	return out, err
}
