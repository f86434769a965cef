package passwd

const (
	// maxFile bounds how much of passwd and group is read: both come from an image (CVE-2026-47262 was an image whose
	// group file filled the memory of the host). A real one with 100,000 users has about 6 MiB.
	maxFile = 10 << 20
	// maxLine bounds one line, and so the memory of the reader. The longest real lines are groups with thousands of members.
	maxLine = 1 << 20
	// maxGroups is the kernel's NGROUPS_MAX, setgroups(2): more cannot be set.
	maxGroups = 65536
	// maxID is the largest id taken: the reference refuses the upper half of the 32 bits too, and the kernel gives 2^32-1
	// the meaning "leave unchanged" (setresuid(2)).
	maxID = 1<<31 - 1
)
