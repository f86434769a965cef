package main

import (
	"encoding/json"
	"strings"
	"testing"

	"gobuild/builder"
	"gobuild/internal/registrytest"
)

func TestN10_DoctorAsksRegistries(t *testing.T) {
	t.Parallel()
	open, locked, down := registrytest.New(t), registrytest.New(t), registrytest.New(t)
	locked.Token("me", "secret")
	down.Server.Close()
	tests := []struct {
		name  string
		args  []string
		state builder.State
		want  []string
	}{
		{"one that is open", []string{open.Host}, builder.StateOK, []string{"answers over http, to anyone"}},
		{"one that wants a login", []string{locked.Host}, builder.StateLimited, []string{"wants a login", "gobuild login " + locked.Host}},
		{"one with a login", []string{"--creds", locked.Host + "=me:secret", locked.Host}, builder.StateOK, []string{"with credentials from --creds"}},
		{"one with a wrong login", []string{"--creds", locked.Host + "=me:wrong", locked.Host}, builder.StateLimited, []string{"access denied"}},
		{"one that is down", []string{down.Host}, builder.StateMissing, []string{"no answer", "check the name and port"}},
	}
	for _, tt := range tests {
		code, stdout, stderr := with(t, t.TempDir(), "", append([]string{"doctor", "--json"}, tt.args...)...)
		var d builder.Diagnosis
		if err := json.Unmarshal([]byte(stdout), &d); err != nil || len(d.Checks) == 0 {
			t.Fatalf("%s: %v\n%s%s", tt.name, err, stdout, stderr)
		}
		last := d.Checks[len(d.Checks)-1]
		want := exitOK
		switch {
		case !d.CanRun:
			want = exitEnvironment
		case tt.state == builder.StateMissing:
			want = exitRemote
		}
		if code != want || last.State != tt.state || !strings.HasPrefix(last.Name, "registry 127.0.0.1:") {
			t.Errorf("%s: exit code %d, want %d; %+v", tt.name, code, want, last)
		}
		for _, w := range tt.want {
			if !strings.Contains(last.Found+last.Why+last.Remedy, w) {
				t.Errorf("%s: no %q in %+v", tt.name, w, last)
			}
		}
	}
}
