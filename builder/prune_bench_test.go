package builder

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gobuild/cache"
)

// The cost of looking through the state directory, and of pruning it, grows with the number of entries and with nothing else:
// compare ns/entry of the sizes.
func BenchmarkPrune(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if os.Geteuid() != 0 {
				b.Skip("needs root")
			}
			for b.Loop() {
				b.StopTimer()
				bd, err := Open(Config{Root: filepath.Join(b.TempDir(), "state"), Executable: "/proc/self/exe"})
				if err != nil {
					b.Fatal(err)
				}
				fillState(b, bd, n)
				b.StartTimer()
				gone, err := bd.Prune(b.Context(), PruneOptions{})
				if err != nil || len(gone) != n {
					b.Fatal(len(gone), err)
				}
				b.StopTimer()
				if err := bd.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
		})
	}
}

// fillState makes n steps with an empty layer each.
func fillState(b *testing.B, bd *Builder, n int) {
	b.Helper()
	for i := range n {
		work, err := bd.snapshots.New(nil)
		if err != nil {
			b.Fatal(err)
		}
		rec := stepRecord{ID: newID(), Created: time.Now()}
		if err := work.Commit(rec.ID); err != nil {
			b.Fatal(err)
		}
		if err := bd.cache.Put(cache.NewKey("run").Add("n", fmt.Sprint(i)).Key(), fmt.Sprintf("bench|%d|0|RUN", i), rec); err != nil {
			b.Fatal(err)
		}
	}
}
