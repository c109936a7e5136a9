;; Returns bytes that are no JSON. Must be refused as output.
(data (i32.const 2048) "{\"a\":tru")
(run
    (call $ok (i32.const 2048) (i32.const 8) (f64.const 1)))
