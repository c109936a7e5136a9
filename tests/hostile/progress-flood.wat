;; Reports progress ten thousand times, with fractions that are no fractions. What is over the limit must be
;; dropped, and the run go well.
(import "chimera:skill/progress@0.1.0" "report" (func $report (param f64 i32 i32)))

(run (local $n i32) (local $out i32)
    (loop $on
        (call $report (f64.const nan) (i32.const 4096) (i32.const 100))
        (call $report (f64.const inf) (i32.const 4096) (i32.const 100))
        (call $report (f64.const -inf) (i32.const 4096) (i32.const 100))
        (call $report (f64.const 1e308) (i32.const 4096) (i32.const 100))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 2500))))
    (call $fine))
