;; Returns a failure of a kind that there is not. Must trap.
(run
    (i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1032) (i32.const 9)) (i32.const 1024))
