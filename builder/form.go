package builder

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"gobuild/layer"
	"gobuild/registry"
	"gobuild/stages"
)

// attributes of each output type that do something here; ui text and FEATURES K2 have the rest.
var (
	imageAttrs    = []string{"name", "push", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp", "store", "registry.insecure", "unpack", "oci-artifact"}
	fileAttrs     = []string{"platform-split"}
	outputAttrs   = map[string][]string{"image": imageAttrs, "registry": imageAttrs, "oci": imageAttrs, "docker": imageAttrs, "local": fileAttrs, "tar": fileAttrs, "cacheonly": nil}
	outputTypes   = slices.Sorted(maps.Keys(outputAttrs))
	imageTypes    = []string{"image", "registry", "oci", "docker"}
	knownButLater = []string{"name-canonical", "push-by-digest", "source-date-epoch", "mode"}
)

// formOf checks the outputs, and takes from them how new layers are compressed. All outputs share one result (FEATURES K1).
func formOf(opt Options) (layerForm, error) {
	form := layerForm{compression: layer.Gzip, epoch: opt.SourceDateEpoch, userXattrs: opt.UserXattrs}
	var err error
	if form.annotations, err = opt.annotations(); err != nil {
		return form, err
	}
	chosen := ""
	for _, o := range opt.Outputs {
		if err := checkOutput(o); err != nil {
			return form, fmt.Errorf("-o type=%s: %w", o.Type, err)
		}
		if o.Type == "docker" && len(opt.Platforms) > 1 {
			return form, &hinted{
				err:  fmt.Errorf("-o type=docker: an archive for docker load holds one platform, and %d are asked for", len(opt.Platforms)),
				hint: "give one with --platform, or use -o type=oci",
			}
		}
		if !slices.Contains(imageTypes, o.Type) {
			continue
		}
		own, err := form.apply(o)
		if err != nil {
			return form, fmt.Errorf("-o type=%s: %w", o.Type, err)
		}
		text := fmt.Sprintf("%s level %d, docker types %v", own.compression, own.level, own.docker)
		if chosen != "" && text != chosen {
			return form, fmt.Errorf("the outputs of one build are one image, but they ask for different forms (%s; %s)", chosen, text)
		}
		chosen, form = text, own
	}
	for _, to := range opt.CacheTo {
		if _, err := to.form(form); err != nil {
			return form, fmt.Errorf("--cache-to=%s: %w", to, err)
		}
	}
	for _, tag := range opt.Tags {
		if _, err := registry.ParseReference(tag); err != nil {
			return form, fmt.Errorf("tag %s: %w", tag, err)
		}
	}
	if err := checkAttestations(opt, form); err != nil {
		return form, err
	}
	if form.docker && (len(form.annotations) > 0 || opt.InheritAnnotations) {
		return form, &hinted{err: errors.New("images of Docker's format have no annotations"), hint: "leave out oci-mediatypes=false, or use --label"}
	}
	return form, nil
}

func checkOutput(o Output) error {
	known, ok := outputAttrs[o.Type]
	if !ok {
		return &hinted{err: fmt.Errorf("no such output type"), hint: fmt.Sprintf("the types are %v", outputTypes)}
	}
	for name := range o.Attrs {
		if _, ok, err := annotationOf(name, o.Attrs[name]); slices.Contains(known, name) || ok && err == nil && slices.Contains(imageTypes, o.Type) {
			continue
		}
		if slices.Contains(knownButLater, name) {
			return fmt.Errorf("%s= is not supported yet", name)
		}
		if near := stages.Suggest(name, known); near != "" {
			return &hinted{err: fmt.Errorf("unknown key %s", name), hint: "did you mean " + near + "?"}
		}
		return fmt.Errorf("unknown key %s", name)
	}
	return nil
}

// apply reads the keys that decide the bytes of layers.
func (f layerForm) apply(o Output) (layerForm, error) {
	f.docker = o.Attrs["oci-mediatypes"] == "false"
	f, err := f.compressed(cmp.Or(o.Attrs["compression"], "gzip"), o.Attrs["compression-level"])
	if err != nil {
		return f, err
	}
	if text := o.Attrs["force-compression"]; text != "" {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return f, fmt.Errorf("force-compression=%s is not true or false", text)
		}
		f.force = on
	}
	if o.Attrs["rewrite-timestamp"] == "false" {
		f.epoch = nil
	}
	return f, nil
}

// compressed is this form with another compression and level; "" is its default level.
func (f layerForm) compressed(name, level string) (layerForm, error) {
	switch name {
	case "gzip":
		f.compression = layer.Gzip
	case "zstd":
		f.compression = layer.Zstd
	case "uncompressed":
		f.compression = layer.None
	default:
		return f, &hinted{err: fmt.Errorf("compression=%s is not supported", name), hint: "gzip, zstd and uncompressed are"}
	}
	if f.level = 0; level == "" {
		return f, nil
	}
	n, err := strconv.Atoi(level)
	if err != nil {
		return f, fmt.Errorf("compression-level=%s is not a number", level)
	}
	if f.level = n; n == 0 {
		f.level = layer.ExplicitZero
	}
	return f, layer.ValidLevel(f.compression, f.level)
}

// text names the form: layers of one form have one set of bytes.
func (f layerForm) text() string {
	epoch := ""
	if f.epoch != nil {
		epoch = strconv.FormatInt(f.epoch.Unix(), 10)
	}
	text := fmt.Sprintf("%s level %d epoch %s", f.compression, f.level, epoch)
	if f.userXattrs {
		text += " user xattrs"
	}
	return text
}

// needsImage says whether layers become blobs at all.
func (bd *build) needsImage() bool {
	return len(bd.opt.Outputs) == 0 || slices.ContainsFunc(bd.opt.Outputs, func(o Output) bool { return slices.Contains(imageTypes, o.Type) })
}
