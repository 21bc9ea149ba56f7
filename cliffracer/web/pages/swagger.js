// Starts Swagger UI, which comes from a package of its own, by day or night as the reader likes it.
const night = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", night.matches);
night.addEventListener("change", follow);
follow();
SwaggerUIBundle({ url: "../openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null, tryItOutEnabled: true });
