package sbom

import (
	"slices"
	"strings"

	"gobuild/internal/lazyre"
)

// knownLicenses are identifiers of the SPDX License List that packages use most. Others are given by their own text, which says
// the same to a reader and cannot be wrong.
var knownLicenses = []string{
	"0BSD", "AFL-2.1", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-1.1", "Apache-2.0", "Artistic-1.0-Perl", "Artistic-2.0", "BSD-2-Clause",
	"BSD-3-Clause", "BSD-4-Clause", "BSL-1.0", "BlueOak-1.0.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "CDDL-1.0", "CDDL-1.1",
	"EPL-1.0", "EPL-2.0", "FTL", "GFDL-1.3-or-later", "GPL-1.0-or-later", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later",
	"HPND", "ICU", "IJG", "ISC", "LGPL-2.0-only", "LGPL-2.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later",
	"MIT", "MIT-0", "MPL-1.1", "MPL-2.0", "NCSA", "OFL-1.1", "OLDAP-2.8", "OpenSSL", "PHP-3.01", "PSF-2.0", "PostgreSQL", "Python-2.0", "Ruby",
	"SSPL-1.0", "Sleepycat", "TCL", "UPL-1.0", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "Vim", "W3C", "WTFPL", "X11", "Zlib", "blessing",
	"bzip2-1.0.6", "curl", "libpng-2.0", "zlib-acknowledgement",
}

var licenseWord = lazyre.New(`^[A-Za-z0-9.-]+\+?$`)

// isExpression says that a text is a license expression of known licenses (SPDX 2.3, annex D), without exceptions.
func isExpression(text string) bool {
	text = strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text)
	depth, operand := 0, true // operand: a license or "(" is next
	for _, w := range strings.Fields(text) {
		switch {
		case w == "(" && operand:
			depth++
		case w == ")" && !operand && depth > 0:
			depth--
		case (w == "AND" || w == "OR") && !operand:
			operand = true
		case operand && licenseWord.MatchString(w) && slices.Contains(knownLicenses, w):
			operand = false
		default:
			return false
		}
	}
	return !operand && depth == 0
}
