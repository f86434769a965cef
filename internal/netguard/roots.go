package netguard

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
)

// maxCA bounds the file of certificate authorities; Mozilla's has 220 KiB.
const maxCA = 16 << 20

// Roots are the system's certificate authorities and those of a PEM file; nil, the system's, when there is no file.
func Roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCA+1))
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if len(b) > maxCA || !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("read certificate authorities: no PEM certificates in %s", file)
	}
	return pool, nil
}
