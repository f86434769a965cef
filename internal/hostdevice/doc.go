// Package hostdevice finds devices of this machine by the names that users give them: the path of a node, or a CDI name
// (Container Device Interface, VENDOR/CLASS=NAME), which a vendor's file in /etc/cdi or /var/run/cdi explains.
//
//	set, err := hostdevice.Find(hostdevice.Dirs(), "/dev/fuse", "vendor.com/gpu=0")
//
// A Set says what a container needs to use the devices: nodes by number, variables and mounts. What of a vendor's file cannot be
// had here, hooks above all, is in Set.Missing, for the caller to tell. An error that is ErrAbsent means that the machine has no
// such device.
//
// It only reads. It decides nothing about who may have a device.
package hostdevice
