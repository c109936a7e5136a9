;; Asks for a terabyte of random numbers at once. Must end at the limit on random numbers, with nothing
;; allocated.
(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))
(run (call $random (i64.const 1099511627776) (i32.const 1536)) (call $fine))
