;; Exports nothing. Must be refused when it is installed.
(component)
