[inputs: ["{mix,.formatter}.exs", "native/*.exs", "{bench,check,config,lib,test}/**/*.{ex,exs}"]]
