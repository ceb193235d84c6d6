export const defineConfig = (config) => config; // of the package prisma, which is large
