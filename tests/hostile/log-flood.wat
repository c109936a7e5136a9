;; Logs 1.2 GB in lines of 60 KB. What is over the limit must be dropped, and the run go well or end at its
;; deadline.
(import "chimera:skill/progress@0.1.0" "log" (func $log (param i32 i32 i32)))

(run (local $n i32) (local $out i32)
    (loop $on
        (call $log (i32.const 1) (i32.const 4096) (i32.const 60000))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 20000))))
    (call $fine))
