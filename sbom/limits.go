package sbom

import "errors"

const (
	// maxPackages bounds a document: at 700 bytes each it has 70 MB. The largest images seen have 20,000.
	maxPackages = 100_000
	// maxFound bounds the places that are told of one package: 300 programs may have one Go module.
	maxFound = 16
	// maxNotes bounds what is told of files that could not be read.
	maxNotes = 100
	// maxField bounds a name, version, license or supplier. Longer ones are an attack, or no name.
	maxField = 1024
	// maxListFile bounds a list of packages that is read whole. Debian's status with all of its packages has 60 MB.
	maxListFile = 64 << 20
	// maxManifest bounds the description of one package.
	maxManifest = 1 << 20
	// maxLine bounds a line of a list of packages: the longest are lists of dependencies.
	maxLine = 1 << 20
	// maxProgramReads bounds what is read of a program to find what it was built from. A Go program's own
	// list has some kilobytes; without one, debug/buildinfo looks through its data.
	maxProgramReads = 64 << 20
	// maxFolderNames bounds the names of one folder that are kept in memory.
	maxFolderNames = 1_000_000
	// maxPath is what the kernel takes in one call; deeper folders are noted and left out.
	maxPath = 4000
	// maxArchiveFiles bounds the files of a .jar that are looked at.
	maxArchiveFiles = 100_000
	// MaxDocument bounds a document; BuildKit and its readers take no larger one.
	MaxDocument = 80 << 20
)

var (
	errTooLarge = errors.New("larger than is read")
	errTooMany  = errors.New("more packages than are listed")
	errFormat   = errors.New("not in the form that is known")
)
