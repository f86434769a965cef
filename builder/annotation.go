package builder

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/image"
	"gobuild/stages"
)

// Annotation is a key and a value that an image carries outside its configuration (FEATURES H16; OCI image-spec annotations.md).
type Annotation struct {
	On       string // what carries it: "manifest", "index", or the entry that leads to one, "manifest-descriptor", "index-descriptor"
	Platform string // of the only image that gets it, "" for any
	Key      string
	Value    string
}

const (
	onManifest   = "manifest"
	onDescriptor = "manifest-descriptor"
	onIndex      = "index"
	onIndexEntry = "index-descriptor"
)

// annotationTypes are buildx's words.
var annotationTypes = []string{onManifest, onDescriptor, onIndex, onIndexEntry}

// ofIndex says that an annotation is of what all platforms share.
func (a Annotation) ofIndex() bool { return a.On == onIndex || a.On == onIndexEntry }

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
	case a.ofIndex() && a.Platform != "":
		return a, &hinted{err: errors.New("an index is not of one platform"), hint: "use manifest or manifest-descriptor"}
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
	for _, a := range all {
		if a.ofIndex() && !opt.Index && !opt.AllPlatforms && len(opt.Platforms) < 2 {
			return nil, &hinted{err: fmt.Errorf("annotation %s is of an index, and one image has none", a.Key), hint: "use manifest or manifest-descriptor"}
		}
	}
	return all, nil
}

// annotate gives an image what is meant for it: the manifest's annotations before it is made, the descriptor's after.
func (bd *build) annotate(platform ocispec.Platform) (manifest, descriptor map[string]string) {
	own := platformText(platform)
	for _, a := range bd.form.annotations {
		switch {
		case a.ofIndex():
		case a.Platform != "" && a.Platform != own:
			if !bd.several() {
				bd.notice(fmt.Sprintf("annotation %s is for %s, and the image is for %s", a.Key, a.Platform, own))
			}
		case a.On == onDescriptor:
			put(&descriptor, a)
		default:
			put(&manifest, a)
		}
	}
	return manifest, descriptor
}

// annotateIndex gives what is meant for the index, and says which annotations no image of it takes.
func (bd *build) annotateIndex(images []ocispec.Descriptor) (index, descriptor map[string]string) {
	for _, a := range bd.form.annotations {
		fits := func(d ocispec.Descriptor) bool { return platformText(*d.Platform) == a.Platform }
		switch {
		case a.On == onIndex:
			put(&index, a)
		case a.On == onIndexEntry:
			put(&descriptor, a)
		case a.Platform != "" && bd.several() && !slices.ContainsFunc(images, fits):
			bd.notice(fmt.Sprintf("annotation %s is for %s, which is none of the platforms", a.Key, a.Platform))
		}
	}
	return index, descriptor
}

func put(to *map[string]string, a Annotation) {
	if *to == nil {
		*to = map[string]string{}
	}
	(*to)[a.Key] = a.Value
}

// inherited are the annotations that an image takes from its base, and those that say which that is
// (OCI image-spec annotations.md, "Pre-Defined Annotation Keys").
func (bd *build) inherited(from *base) map[string]string {
	if !bd.opt.InheritAnnotations || from == nil || from.dir {
		return nil
	}
	all := maps.Clone(from.annotations)
	if all == nil {
		all = map[string]string{}
	}
	delete(all, ocispec.AnnotationBaseImageName) // of the base's own base
	all[ocispec.AnnotationBaseImageDigest] = from.manifest.Digest.String()
	if from.ref != "" {
		all[ocispec.AnnotationBaseImageName] = from.ref
	}
	for _, key := range bd.opt.UnsetAnnotations {
		delete(all, key)
	}
	return all
}

// assembleAnnotated is image.Assemble with the annotations; those of the command line come before the base's.
func (bd *build) assembleAnnotated(a image.Assembly, from *base) (image.Assembled, error) {
	manifest, descriptor := bd.annotate(a.Image.Platform)
	if all := bd.inherited(from); len(all) > 0 {
		maps.Copy(all, manifest)
		manifest = all
	}
	a.Annotations = manifest
	out, err := image.Assemble(a)
	out.Manifest.Annotations = descriptor
	return out, err
}
