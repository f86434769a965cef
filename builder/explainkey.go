package builder

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	"gobuild/history"
)

// filesRecord is what the cache keeps beside a COPY for explanations alone: size and mode of each file, of which the key has but
// the digest.
type filesRecord struct {
	Files []contentFile `json:"files"`
}

func filesKey(step digest.Digest) cache.Key {
	return cache.NewKey("files").Add("step", step.String()).Key()
}

// noteFiles keeps them. Losing them makes an explanation poorer.
func (bd *build) noteFiles(j *job) {
	if len(j.files) > 0 {
		_ = bd.cache.Put(filesKey(j.key.Digest()), "files", filesRecord{j.files})
	}
}

func (b *Builder) filesOf(old cache.Key) []contentFile {
	var rec filesRecord
	if _, ok, err := b.cache.Lookup(filesKey(old.Digest()), &rec); !ok || err != nil {
		return nil
	}
	return rec.Files
}

// filePairs are the files of two keys of a step.
type filePairs struct{ before, now []contentFile }

// causes words the differences of two keys of one instruction, and says whether what lies below differs.
func (p filePairs) causes(old, now cache.Key) (list []history.Cause, below bool) {
	more := 0
	for _, c := range cache.Diff(old, now) {
		below = below || c.Name == "parent"
		cause, ok := p.describe(c)
		switch {
		case !ok:
		case len(list) == maxExplained:
			more++
		default:
			list = append(list, cause)
		}
	}
	if more > 0 {
		list = append(list, history.Cause{Kind: "more", Text: fmt.Sprintf("and %d more", more)})
	}
	return list, below
}

// describe words one changed line of a key; lines that say nothing to a reader are passed over: the parent, and digests of
// whole selections.
func (p filePairs) describe(c cache.Change) (history.Cause, bool) {
	kind, name, _ := strings.Cut(c.Name, ":")
	switch kind {
	case "parent", "content", "passwd":
		return history.Cause{}, false
	case "file":
		return p.file(name, c), true
	case "env":
		cause := history.Cause{Kind: "arg", Name: name, Text: name + " " + changed(c, !secretName(name))}
		if !secretName(name) {
			cause.Old, cause.New = clip(c.Old), clip(c.New)
		}
		return cause, true
	case "mount":
		return history.Cause{Kind: "mount", Name: name, Text: "mount " + name + " " + changed(c, false)}, true
	case "command":
		return history.Cause{Kind: "instruction", Old: clip(c.Old), New: clip(c.New), Text: "the command " + changed(c, true)}, true
	}
	return history.Cause{
		Kind: "option", Name: c.Name, Old: clip(c.Old), New: clip(c.New), Text: strings.ReplaceAll(c.Name, "-", " ") + " " + changed(c, true),
	}, true
}

func changed(c cache.Change, values bool) string {
	switch {
	case c.OldValues == nil:
		return "is new"
	case c.NewValues == nil:
		return "is gone"
	case values:
		return fmt.Sprintf("changed: %s -> %s", clip(c.Old), clip(c.New))
	}
	return "changed"
}

// file words a file that differs, with what is known of it: size, mode and digest.
func (p filePairs) file(name string, c cache.Change) history.Cause {
	was, is := find(p.before, name), find(p.now, name)
	cause := history.Cause{Kind: "file", Name: name, Old: was.about(c.Old), New: is.about(c.New)}
	switch {
	case c.OldValues == nil:
		cause.Text = name + " is new" + is.brackets()
	case c.NewValues == nil:
		cause.Text = name + " is gone" + was.brackets()
	case was.Path == "" || is.Path == "":
		cause.Text = fmt.Sprintf("%s changed: %s -> %s", name, shortDigest(digest.Digest(c.Old)), shortDigest(digest.Digest(c.New)))
	default:
		cause.Text = name + " changed: " + difference(was, is)
	}
	return cause
}

func difference(was, is contentFile) string {
	var parts []string
	if was.Mode != is.Mode {
		parts = append(parts, fmt.Sprintf("mode %04o -> %04o", was.Mode&0o7777, is.Mode&0o7777))
	}
	if was.Size != is.Size {
		parts = append(parts, fmt.Sprintf("%s -> %s", bytesText(was.Size), bytesText(is.Size)))
	}
	if len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("other content or owner, still %s", bytesText(is.Size)))
	}
	return strings.Join(append(parts, shortDigest(was.Digest)+" -> "+shortDigest(is.Digest)), ", ")
}

// bytesText is exact while that can be read at a glance.
func bytesText(n int64) string {
	if n < 1_000_000 {
		return fmt.Sprintf("%d bytes", n)
	}
	return units.HumanSizeWithPrecision(float64(n), 4)
}

func find(files []contentFile, name string) contentFile {
	for _, f := range files {
		if f.Path == name {
			return f
		}
	}
	return contentFile{}
}

// about is a file for programs: size, mode and digest, or the digest alone.
func (f contentFile) about(d string) string {
	if f.Path == "" {
		return d
	}
	return fmt.Sprintf("size=%d mode=%04o digest=%s", f.Size, f.Mode&0o7777, f.Digest)
}

func (f contentFile) brackets() string {
	if f.Path == "" {
		return ""
	}
	return fmt.Sprintf(" (%s, mode %04o)", bytesText(f.Size), f.Mode&0o7777)
}
