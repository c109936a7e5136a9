;; Returns two values after each other. Must be refused as output.
(data (i32.const 2048) "{} {}")
(run
    (call $ok (i32.const 2048) (i32.const 5) (f64.const 1)))
