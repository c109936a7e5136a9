;; Waits for handles that it was never given. Must trap at the first.
(import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
(run (local $n i32)
    (loop $on
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (call $block (local.get $n))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 5000))))
    (call $fine))
