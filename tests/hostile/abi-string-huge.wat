;; Returns a string of four gigabytes in a small memory. Must end, with nothing allocated.
(run
    (call $ok (i32.const 0) (i32.const -1) (f64.const 1)))
