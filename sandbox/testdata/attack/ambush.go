package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ambush stops each process that appears, as soon as it does, and tells what it has that this one has not. It says "up", and goes on to
// the end of its input.
func ambush() {
	fmt.Println("up")
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	own, met := capabilities("self"), map[string]bool{}
	for {
		select {
		case <-over:
			fmt.Fprintf(os.Stderr, "met %d\n", len(met))
			return
		default:
		}
		for _, dir := range list("/proc/[0-9]*") {
			name := filepath.Base(dir)
			pid, _ := strconv.Atoi(name)
			if met[name] || pid == 1 || pid == os.Getpid() {
				continue
			}
			met[name] = true
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			if has := capabilities(name); has != "" && has != own {
				fmt.Fprintf(os.Stderr, "BAD process %s has capabilities %s\n", name, has)
			}
			for _, fd := range list(dir + "/fd/*") {
				to, err := os.Readlink(fd)
				if err == nil && !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "socket:") && to != "/dev/null" && to != "/dev/tty" {
					fmt.Fprintf(os.Stderr, "BAD process %s has %s open\n", name, to)
				}
			}
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

func capabilities(process string) string {
	data, _ := os.ReadFile("/proc/" + process + "/status") // none of a process that has ended
	var list []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "Cap") && !strings.HasPrefix(line, "CapAmb") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return strings.Join(list, " ")
}
