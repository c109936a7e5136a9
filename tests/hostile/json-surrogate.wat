;; Returns JSON with half a surrogate pair, which is no text. Must be refused as output.
(data (i32.const 2048) "\22\5cud800\22")
(run
    (call $ok (i32.const 2048) (i32.const 8) (f64.const 1)))
