package main

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// send gives its root, and with "writing" a file of it that is open for writing and mapped, to whoever listens at a path.
func send(path, what string) {
	var conn *net.UnixConn
	for conn == nil {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			conn = c
		}
		time.Sleep(time.Millisecond)
	}
	root, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	check(err)
	check(os.WriteFile("/mine", []byte("mine\n"), 0o644))
	fds := []int{root}
	if what == "writing" {
		file, err := syscall.Open("/mine", syscall.O_RDWR, 0)
		check(err)
		fds = append(fds, file)
	}
	_, _, err = conn.WriteMsgUnix([]byte{0}, syscall.UnixRights(fds...), nil)
	check(err)
	_, err = conn.Read(make([]byte, 1)) // it has them
	check(err)
}

// take takes what send sends, says so, and when a path exists does with it what a step that is over must not have done.
func take(path, over string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	check(err)
	conn, err := l.AcceptUnix()
	check(err)
	oob := make([]byte, 1000)
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	check(err)
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	check(err)
	fds, err := syscall.ParseUnixRights(&messages[0])
	check(err)
	_, err = conn.Write([]byte{0})
	check(err)
	for os.Chdir(over) != nil {
		time.Sleep(time.Millisecond)
	}
	root := fds[0]
	fd, err := syscall.Openat(root, "evil", syscall.O_CREAT|syscall.O_WRONLY, 0o644)
	try("make a file in a step that is over", err)
	_ = syscall.Close(fd)
	try("make a folder", syscall.Mkdirat(root, "evil.d", 0o755))
	try("remove a file", syscall.Unlinkat(root, "mine"))
	try("rename a file", syscall.Renameat(root, "mine", root, "yours"))
	_, err = syscall.Openat(root, "mine", syscall.O_RDWR, 0)
	try("open a file for writing", err)
	try("mode of the root", syscall.Fchmod(root, 0o755))
	try("owner of a file", syscall.Fchownat(root, "mine", 0, 0, 0))
	try("mode of a file", syscall.Fchmodat(root, "mine", 0o644, 0))
	check(syscall.Fchdir(root))
	try("attribute", syscall.Setxattr("mine", "user.x", []byte("x"), 0))
	try("truncate", syscall.Truncate("mine", 0))
	for _, name := range list("*") {
		fmt.Print(name, " ")
	}
	fmt.Println()
}

// sendInLoop ends with descriptors for writing on their way through sockets that nobody can read any more, one of them through itself.
func sendInLoop() {
	for range 20 {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
		check(err)
		file, err := syscall.Open("/mine", syscall.O_RDWR|syscall.O_CREAT, 0o644)
		check(err)
		check(syscall.Sendmsg(pair[0], []byte{0}, syscall.UnixRights(file, pair[0], pair[1]), nil, 0))
		check(syscall.Sendmsg(pair[1], []byte{0}, syscall.UnixRights(file, pair[0], pair[1]), nil, 0))
		_, _, _ = syscall.Close(file), syscall.Close(pair[0]), syscall.Close(pair[1])
	}
}

func check(err error) {
	if err != nil {
		bad("cannot go on: %v", err)
		os.Exit(1)
	}
}
