package registry_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a goroutine outlives the clients that were closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
