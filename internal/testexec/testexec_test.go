package testexec

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

func TestProgramsCanBeExecutedAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			path := filepath.Join(dir, strconv.Itoa(i))
			err := WriteFile(path, []byte("#!/bin/sh\nexit 0\n"))
			if err == nil {
				err = exec.Command(path).Run()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
