package stages

import (
	"fmt"
	"strings"
	"testing"
)

// manyStages is a Dockerfile of n instructions, FROM included, ten to a stage:
// each stage is based on the one before, or on an image, and copies from another.
func manyStages(n int) string {
	var b strings.Builder
	b.WriteString("ARG V=1\n")
	for i := range n / 10 {
		base := "busybox:$V"
		if i%5 > 0 {
			base = fmt.Sprintf("s%d", i-1)
		}
		fmt.Fprintf(&b, "FROM %s AS s%d\nARG V\nENV A%d=$V B=${A:-x}\nWORKDIR /w/%d\nRUN --mount=type=cache,target=/c make -j4 V=$V > /dev/null && rm -rf x\n", base, i, i%7, i)
		fmt.Fprintf(&b, "COPY --from=%d --chown=1:1 /a /b$A%d\nLABEL l%d=\"$V\"\nRUN apk add --no-cache a b c\nEXPOSE 80/tcp\nUSER 1000\n", max(i-2, 0), i%7, i%7)
	}
	return strings.Replace(b.String(), "COPY --from=0", "COPY", 1)
}

func planAll(tb testing.TB, f *File) {
	tb.Helper()
	opt := amd64()
	opt.AllStages, opt.Best = true, BestBuild
	base, _ := testBase(BaseRef{Name: "busybox:1", Platform: "linux/amd64"})
	plan, missing, err := f.Plan(opt, map[BaseRef]Base{{Name: "busybox:1", Platform: "linux/amd64"}: base})
	if err != nil || plan == nil {
		tb.Fatalf("%v %v", missing, err)
	}
}

func parsed(tb testing.TB, src string) *File {
	tb.Helper()
	f, err := Parse("Dockerfile", []byte(src), ParseOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// BenchmarkPlan5000 is the planning of 5,000 instructions in 500 stages, next to
// reading them: it may take 200 ms, and takes about 40.
func BenchmarkPlan5000(b *testing.B) {
	src := manyStages(5000)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			parsed(b, src)
		}
	})
	b.Run("plan", func(b *testing.B) {
		f := parsed(b, src)
		b.ReportAllocs()
		for b.Loop() {
			planAll(b, f)
		}
	})
	b.Run("fix", func(b *testing.B) {
		f := parsed(b, src)
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := f.Fix(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestPlanningIsLinear counts allocations, which no other process disturbs: twice
// the instructions are twice the work.
func TestPlanningIsLinear(t *testing.T) {
	count := func(n int) float64 {
		f := parsed(t, manyStages(n))
		return testing.AllocsPerRun(1, func() { planAll(t, f) })
	}
	small, large := count(500), count(1000)
	if large > 2.2*small {
		t.Errorf("500 instructions take %.0f allocations, 1,000 take %.0f", small, large)
	}
	fix := func(n int) float64 {
		f := parsed(t, manyStages(n))
		return testing.AllocsPerRun(1, func() {
			if _, _, err := f.Fix(); err != nil {
				t.Error(err)
			}
		})
	}
	if small, large := fix(500), fix(1000); large > 2.2*small {
		t.Errorf("Fix: 500 instructions take %.0f allocations, 1,000 take %.0f", small, large)
	}
}
