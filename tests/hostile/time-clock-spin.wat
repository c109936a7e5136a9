;; Tries to watch the clock until its time is over. The clock must stand still at the limit on readings, and the
;; run end at its deadline.
(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
(run (loop $on (br_if $on (i64.ge_u (call $now) (i64.const 0)))) unreachable)
