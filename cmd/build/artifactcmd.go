package main

import (
	"context"
	"mime"
	"os"
	"strings"

	"gobuild/builder"
)

func artifactCommand() command {
	return command{
		name: "attach", group: "Registries", args: "IMAGE FILE[:TYPE]...", short: "Attach files to an image in its registry",
		long: `Put files beside an image in its registry, as an artifact whose subject is the image (OCI 1.1): a report, a bill, a text.
Registries list it among the referrers of the image; one that has no such list gets the tag sha256-DIGEST in its place.
The digest of the artifact is printed. TYPE is a media type (default application/octet-stream).

  gobuild attach --artifact-type=application/vnd.example.report example.com/app:1 report.json:application/json`,
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "artifact-type", kind: kindString, arg: "TYPE", text: "media type of the whole"},
				{name: "annotation", kind: kindList, arg: "KEY=VALUE", text: "of the artifact"},
				pushChunkFlag(),
			}
		},
		run: (*app).attachArtifact,
	}
}

func (a *app) attachArtifact(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return hint(usagef("gobuild attach takes an image and at least one file"), "gobuild attach --artifact-type TYPE IMAGE FILE")
	}
	kind := a.flags.str("artifact-type")
	if !isMediaType(kind) {
		return hint(usagef("--artifact-type=%s: want a media type", kind), "e.g. --artifact-type=application/vnd.example.report")
	}
	annotations, err := manifestAnnotations(a.flags)
	if err != nil {
		return err
	}
	at := builder.Attachment{Image: args[0], ArtifactType: kind, Annotations: annotations, Progress: a.printer.Event}
	for _, text := range args[1:] {
		f := builder.AttachedFile{Path: text}
		if _, err := os.Lstat(text); err != nil { // a file of that very name comes first
			if i := strings.LastIndexByte(text, ':'); i > 0 && isMediaType(text[i+1:]) {
				f.Path, f.MediaType = text[:i], text[i+1:]
			}
		}
		at.Files = append(at.Files, f)
	}
	return a.withBuilder(func(b *builder.Builder) error {
		d, err := b.AttachArtifact(ctx, at)
		if err != nil {
			return err
		}
		return a.print(d.String())
	})
}

func isMediaType(s string) bool {
	parsed, _, err := mime.ParseMediaType(s)
	return err == nil && strings.Contains(parsed, "/")
}
