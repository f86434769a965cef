package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// readList reads lines of the form "NAME reason"; blank lines and lines that start with # are dropped. A name without a reason
// is an error: the list exists for the reasons.
func readList(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list := map[string]string{}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, _ := strings.Cut(line, " ")
		if strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: %s has no reason", path, n, name)
		}
		if _, twice := list[name]; twice {
			return nil, fmt.Errorf("%s:%d: %s is listed twice", path, n, name)
		}
		list[name] = strings.TrimSpace(reason)
	}
	return list, sc.Err()
}
