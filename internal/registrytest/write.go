package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PutBlob stores a blob, whatever it is.
func (r *Registry) PutBlob(repo string, data []byte) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(data)
	r.repo(repo).blobs[d] = data
	return d
}

// PutManifest stores a manifest without a look at it. The tag may be "".
func (r *Registry) PutManifest(repo, tag, mediaType string, data []byte) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(data)
	r.repo(repo).manifests[d] = manifest{mediaType, data}
	if tag != "" {
		r.repo(repo).tags[tag] = d
	}
	return d
}

func (r *Registry) serveUpload(w http.ResponseWriter, req *http.Request, repo, id string, body []byte) {
	q := req.URL.Query()
	if req.Method == http.MethodPost {
		mount := digest.Digest(q.Get("mount"))
		if from := r.repos[q.Get("from")]; from != nil && from.blobs[mount] != nil {
			r.repo(repo).blobs[mount] = from.blobs[mount]
			w.Header().Set("Docker-Content-Digest", mount.String())
			w.WriteHeader(http.StatusCreated)
			return
		}
		r.begun++
		id = fmt.Sprintf("u%d", r.begun)
		r.uploads[id] = &upload{repo: repo}
		accepted(w, repo, id, 0)
		return
	}
	u := r.uploads[id]
	if u == nil || u.repo != repo {
		fail(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
		return
	}
	switch req.Method {
	case http.MethodPatch, http.MethodPut:
		var from int
		if n, _ := fmt.Sscanf(req.Header.Get("Content-Range"), "%d-", &from); n == 1 && from != len(u.data) {
			w.Header().Set("Location", location(repo, id))
			w.Header().Set("Range", fmt.Sprintf("0-%d", len(u.data)-1))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		u.data = append(u.data, body...)
	case http.MethodDelete:
		delete(r.uploads, id)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if req.Method != http.MethodPut {
		accepted(w, repo, id, len(u.data))
		return
	}
	d := digest.Digest(q.Get("digest"))
	if d.Validate() != nil || d.Algorithm().FromBytes(u.data) != d {
		u.data = nil
		fail(w, http.StatusBadRequest, "DIGEST_INVALID")
		return
	}
	r.repo(repo).blobs[d] = u.data
	delete(r.uploads, id)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+d.String())
	w.WriteHeader(http.StatusCreated)
}

func location(repo, id string) string { return "/v2/" + repo + "/blobs/uploads/" + id }

func accepted(w http.ResponseWriter, repo, id string, have int) {
	w.Header().Set("Location", location(repo, id))
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(have-1, 0)))
	w.WriteHeader(http.StatusAccepted)
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, repo, ref string, body []byte) {
	switch req.Method {
	case http.MethodPut:
		r.putManifest(w, req, repo, ref, body)
		return
	case http.MethodDelete:
		r.deleteManifest(w, repo, ref)
		return
	}
	d, m, ok := r.find(repo, ref)
	if !ok {
		fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	serveBytes(w, req, m.data, m.mediaType, d)
}

func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, repo, ref string, body []byte) {
	var doc struct {
		Config    *ocispec.Descriptor
		Layers    []ocispec.Descriptor
		Manifests []ocispec.Descriptor
		Subject   *ocispec.Descriptor
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		fail(w, http.StatusBadRequest, "MANIFEST_INVALID")
		return
	}
	rep := r.repo(repo)
	if doc.Config != nil {
		doc.Layers = append(doc.Layers, *doc.Config)
	}
	for _, l := range doc.Layers {
		if _, ok := rep.blobs[l.Digest]; !ok {
			fail(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
			return
		}
	}
	for _, m := range doc.Manifests {
		if _, ok := rep.manifests[m.Digest]; !ok {
			fail(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
			return
		}
	}
	d := digest.FromBytes(body)
	if want := digest.Digest(ref); want.Validate() == nil && want != d {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID")
		return
	} else if want.Validate() != nil {
		rep.tags[ref] = d
	}
	rep.manifests[d] = manifest{req.Header.Get("Content-Type"), body}
	if r.Referrers && doc.Subject != nil {
		w.Header().Set("OCI-Subject", doc.Subject.Digest.String())
	}
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}

// serveReferrers lists the manifests that refer to a subject, which need not be there.
func (r *Registry) serveReferrers(w http.ResponseWriter, req *http.Request, repo string, subject digest.Digest) {
	if !r.Referrers {
		fail(w, http.StatusNotFound, "UNSUPPORTED")
		return
	}
	wanted := req.URL.Query().Get("artifactType")
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	idx.SchemaVersion = 2
	for d, m := range r.repo(repo).manifests {
		var doc ocispec.Manifest
		if json.Unmarshal(m.data, &doc) != nil || doc.Subject == nil || doc.Subject.Digest != subject || wanted != "" && doc.ArtifactType != wanted {
			continue
		}
		idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
			MediaType: m.mediaType, ArtifactType: doc.ArtifactType, Digest: d, Size: int64(len(m.data)), Annotations: doc.Annotations,
		})
	}
	if wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_ = json.NewEncoder(w).Encode(idx)
}

// deleteManifest takes digests alone, as docker-registry does.
func (r *Registry) deleteManifest(w http.ResponseWriter, repo, ref string) {
	d, _, ok := r.find(repo, ref)
	switch {
	case r.NoDelete:
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
	case !ok:
		fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
	case d.String() != ref:
		fail(w, http.StatusBadRequest, "DIGEST_INVALID")
	default:
		rep := r.repo(repo)
		delete(rep.manifests, d)
		for tag, to := range rep.tags {
			if to == d {
				delete(rep.tags, tag)
			}
		}
		w.WriteHeader(http.StatusAccepted)
	}
}
