;; Returns a string whose end is beyond the 32-bit space. Must trap.
(run
    (call $ok (i32.const -16) (i32.const 64) (f64.const 1)))
